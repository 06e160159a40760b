"""What a low precision costs a model, and what of a difference between engine and actor it explains."""

import pytest
import torch

pytest.importorskip("openrlhf")
pytest.importorskip("vllm")

from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf_prefix.runtime.audit.doctor_controller import agreement  # noqa: E402
from openrlhf_prefix.runtime.audit.findings import OK, WRONG  # noqa: E402
from openrlhf_prefix.runtime.learner.fp32 import InFp32  # noqa: E402

SIZES = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("kind", "config"), [(Qwen2ForCausalLM, Qwen2Config), (Qwen3ForCausalLM, Qwen3Config)], ids=["qwen2", "qwen3"]
)
def test_it_is_the_pass_of_the_same_weights_in_fp32(kind, config, attention: str) -> None:
    """The weights are rounded already, and stay so in the fp32 copy: only the activations differ."""
    torch.manual_seed(1)
    model = kind(config(**SIZES, **HEADS, attn_implementation=attention)).to(torch.bfloat16).eval()
    tokens = torch.randint(0, 128, (3, 40))
    with torch.no_grad():
        low = model(tokens).logits.float()
        with InFp32():
            found = model(tokens).logits
        exact = model.float()(tokens).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
    assert (low - exact).abs().mean() > 20 * (found - exact).abs().mean()


@pytest.mark.parametrize(
    ("difference", "rounding", "status"),
    [
        (0.043, 0.033, OK),  # a healthy model of 135M parameters in bf16, which a fixed limit of 0.02 called wrong
        (0.10, 0.033, WRONG),
        (0.019, 0.003, WRONG),  # below that limit, and six times what precision explains
        (0.0015, 0.0, OK),  # fp32 on both sides, other kernels
        (float("nan"), 0.01, WRONG),
    ],
)
def test_a_difference_is_held_against_the_actors_own_rounding(difference, rounding, status) -> None:
    found = agreement(torch.full((5,), difference), torch.full((5,), rounding), "bf16")
    assert found.status == status
    assert f"{difference:.4f}" in found.detail and f"{rounding:.4f}" in found.detail
