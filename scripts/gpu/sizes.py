"""The model and the rows of the stages: on a GPU large enough to say something, on a CPU as small as will do."""

import os
from dataclasses import dataclass
from pathlib import Path

from gpu.stage import Setting


@dataclass(frozen=True)
class Sizes:
    hidden: int
    heads: int  # of which a quarter, or one, is for keys and values
    layers: int
    vocabulary: int
    prompt: int  # tokens of a row
    response: int
    rows: int  # of an optimizer step, in groups of eight
    tokens: int  # of the head's stage
    words: int
    width: int


GPU = Sizes(1024, 8, 12, 32_000, 128, 896, 32, 16_384, 152_064, 3584)  # 240M parameters, heads of 128
CPU = Sizes(64, 2, 2, 512, 6, 26, 16, 2_048, 32_000, 256)
QUICK = Sizes(64, 2, 2, 512, 6, 26, 16, 512, 8_000, 64)


def sizes(setting: Setting) -> Sizes:
    return GPU if setting.on_gpu else QUICK if setting.quick else CPU


def model_folder(setting: Setting) -> Path:
    """An HF folder of a Qwen2 with random weights in bf16 and a tokenizer, made by the stage that needs it first."""
    folder, size = setting.work / "model", sizes(setting)
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from openrlhf_prefix.data import tiny_tokenizer
    from openrlhf_prefix.data.chains import INSTRUCTION

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=max(1, size.heads // 4),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    partial = setting.work / f"model.{os.getpid()}"
    tiny_tokenizer.make_tokenizer(INSTRUCTION).save_pretrained(partial)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:
        if not (folder / "config.json").exists():  # else the stage beside this one has made it since
            raise
    return folder
