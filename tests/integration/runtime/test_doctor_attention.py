"""Attention is told by the kernels that ran; names as PyTorch 2.13, flash-attn 2.8 and cuDNN give them."""

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf_prefix.runtime.audit.doctor_controller import attention  # noqa: E402
from openrlhf_prefix.runtime.audit.findings import OK, SKIPPED, WRONG  # noqa: E402

PRODUCT = "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT"
FLASH = "void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>"
EFFICIENT = "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)"


@pytest.mark.parametrize(
    ("wanted", "kernels", "status", "detail"),
    [
        ("flash_attention_2", [PRODUCT, FLASH], OK, "flash_attention_2: void flash::flash_fwd_kernel"),
        ("flash_attention_2", [PRODUCT, EFFICIENT], WRONG, "asked for, but no such kernel ran"),
        ("sdpa", [PRODUCT, EFFICIENT], OK, "sdpa: fmha_cutlassF_bf16"),
        ("sdpa", [PRODUCT, f"pytorch_{FLASH}"], OK, "sdpa: pytorch_void flash"),
        ("eager", [PRODUCT], OK, "eager: no kernel of its own"),
        ("sdpa", None, SKIPPED, "no CUDA here; it is sdpa"),
    ],
)
def test_the_kernel_that_ran_is_named(wanted: str, kernels: list[str] | None, status: str, detail: str) -> None:
    finding = attention(wanted, kernels)
    assert (finding.check, finding.status) == ("attention", status) and detail in finding.detail
