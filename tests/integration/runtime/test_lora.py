"""Merged by hand, and as PEFT merges."""

import pytest

pytest.importorskip("peft")

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from openrlhf_prefix.runtime.learner.lora import merge


def test_a_weight_is_w_plus_scale_times_b_a() -> None:
    """W = [[1, 0], [0, 1]], A = [[1, 2]], B = [[3], [4]]: B A = [[3, 6], [4, 8]], and half of it is added."""
    name = "base_model.model.model.layers.0.mlp.up_proj"
    state = {
        "base_model.model.model.norm.weight": torch.ones(2),
        f"{name}.base_layer.weight": torch.eye(2),
        f"{name}.base_layer.bias": torch.zeros(2),
        f"{name}.lora_A.default.weight": torch.tensor([[1.0, 2.0]]),
        f"{name}.lora_B.default.weight": torch.tensor([[3.0], [4.0]]),
    }
    merged = merge(state, 0.5)
    assert set(merged) == {"model.norm.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.bias"}
    assert merged["model.layers.0.mlp.up_proj.weight"].tolist() == [[2.5, 3.0], [2.0, 5.0]]


def test_it_is_what_peft_makes_of_the_same_adapter() -> None:
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=20, num_key_value_heads=2, **sizes))
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ours = merge(dict(adapted.state_dict()), 16 / 4)
    theirs = adapted.merge_and_unload().state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
