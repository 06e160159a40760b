"""What is compiled for GPUs, and what runs where it is not there: vLLM's build, flash-attn, ring attention, nvcc.

OpenRLHF imports five functions of flash_attn whatever the attention; flash_attn_cpu.py stands in for them on any
machine. Attention itself is then PyTorch's (sdpa). Packed rows would need a mask of tokens x tokens, through a kernel
that computes what it masks: that is refused, not made slow.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from openrlhf_prefix import machine, pins
from openrlhf_prefix.errors import UserError


def has_flash_attn() -> bool:
    return not pins.missing("flash-attn")


def check_vllm(wrong: str, right: str, platform: str) -> None:
    """The build of vLLM that is installed computes on this platform ("cuda" or "cpu"). Raises UserError."""
    if pins.missing(right) and not pins.missing(wrong):
        stack = {"cuda": "gpu", "cpu": "cpu"}[platform]
        raise UserError(
            f"this run is on {platform}, and the vLLM that is installed ({wrong}) cannot sample there: install the "
            f"other stack (STACK={stack} bash scripts/setup.sh), or leave OPENRLHF_PREFIX_PLATFORM out"
        )


def check_ring_attention(args: SimpleNamespace) -> None:
    """ds.ring_attn_size has the packages that it needs. Raises UserError."""
    missing = pins.missing(*pins.RING_ATTENTION)
    if args.ds.ring_attn_size > 1 and missing:
        raise UserError(
            f"ds.ring_attn_size {args.ds.ring_attn_size} needs {' and '.join(missing)}, not installed here: "
            "leave it at 1, or run bash scripts/setup.sh where there are GPUs"
        )


def choose_attention(args: SimpleNamespace) -> None:
    """Without flash-attn attention becomes sdpa, which is said; UserError where the rows are packed."""
    if has_flash_attn() or args.ds.attn_implementation != "flash_attention_2":
        return
    if args.ds.packing_samples:
        by = "train.dynamic_batch_enable" if args.train.dynamic_batch_enable else "ds.packing_samples"
        raise UserError(
            f"{by} packs rows into one sequence, which needs flash-attn, and that is not installed here: install it "
            "(ATTENTION=flash bash scripts/setup.sh), or go without: --train.dynamic_batch_enable false "
            "--ds.packing_samples false --train.micro_batch_size 1"
        )
    print("attention is sdpa: flash-attn is not installed here (docs/00-install.md)", flush=True)
    args.ds.attn_implementation = "sdpa"


def compiler_environment() -> dict[str, str]:
    """Where DeepSpeed finds the CUDA compiler, and ninja, that set-up put beside this Python.

    Nothing where set-up made none, or the user names a CUDA_HOME of the version that PyTorch is built with: DeepSpeed
    compiles with no other (containers often bring one). Ray puts each machine's own PATH into the place of ${PATH}.
    """
    home, named = machine.cuda_home(), os.environ.get("CUDA_HOME")
    if home is None or (named and machine.nvcc_release(Path(named)) == torch.version.cuda):
        return {}
    return {"CUDA_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{home / 'bin'}:${{PATH}}"}
