"""The GPUs of every node, against what the run needs of them; asked before a model loads, on CUDA alone.

A run takes minutes to the first step, and what is wrong with one of 64 GPUs shows there as an error of NCCL, of a
compiler or of the allocator on one rank. Here it is a line with the address and the mend.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace

import psutil

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.machine import OLDEST_COMPUTE
from openrlhf_prefix.plan import architectures
from openrlhf_prefix.plan.memory import GIB, PHASES, make_plan
from openrlhf_prefix.runtime.driver.gpu_probe import Found, read

BUILD_SECONDS = 300.0  # until DeepSpeed's operators are compiled, where set-up has not done so
OWN_GIB = 2.0  # what the look itself and the driver hold of a GPU
SHARED_GIB = 1.0  # NCCL, vLLM and Ray share memory between the processes of a node; Docker gives 64 MiB
KERNELS = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}  # modules of attention
VISIBLE = "CUDA_VISIBLE_DEVICES"


def parts_of(args: SimpleNamespace) -> list[str]:
    """What the run loads that is compiled for GPUs: see gpu_probe.py."""
    parts = ["CPUAdamBuilder" if args.ds.adam_offload else "FusedAdamBuilder"] if args.actor.optim == "adam" else []
    kernel = KERNELS.get(args.ds.attn_implementation)
    return [*parts, kernel] if kernel else parts


def ask(parts: list[str], given: Mapping[str, str] | None = None) -> Found:
    """Looks at the GPUs that a process with the environment `given` sees.

    The probe of a node, which Ray shows none, leaves it out: those that Ray was started with are in its parent's view.
    """
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE}
    given = psutil.Process().parent().environ() if given is None else given
    environment |= {VISIBLE: given[VISIBLE]} if VISIBLE in given else {}
    command = [sys.executable, "-W", "ignore", "-m", "openrlhf_prefix.runtime.driver.gpu_probe", *parts]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        return Found(failed=(error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1])
    except subprocess.TimeoutExpired:
        return Found(
            failed=f"not done after {BUILD_SECONDS:.0f} s; a lock in ~/.cache/torch_extensions may be an old one"
        )
    return read(done.stdout)


def needed(args: SimpleNamespace, total: float) -> float:
    """GiB of a GPU of `total` GiB that the run takes at most, by its plan; else the engines' share alone."""
    try:
        plan = make_plan(args, architectures.load(args.actor.model_name_or_path), total * GIB)
    except UserError:  # a model, or a teacher, that no plan knows
        return args.vllm.gpu_memory_utilization * total
    return max(plan.total(phase) for phase in PHASES) / GIB


def problems(address: str, counted: int, idle: bool, found: Found, need: float) -> list[str]:
    """What is wrong with the GPUs of a node, and the mend, a line each.

    Args:
        counted: GPUs that Ray counts there.
        idle: no other job of Ray's has one of them.
        need: GiB that the run takes of each.
    """
    if found.failed:
        return [f"{address}: its GPUs could not be looked at ({found.failed}): run bash scripts/setup.sh there"]
    if found.blind:
        return [f"{address}: PyTorch sees no GPU, and Ray counts {counted}: {found.blind}"]
    lines = []
    if len(found.devices) < counted:
        lines.append(
            f"{address}: PyTorch sees {len(found.devices)} GPUs, and Ray counts {counted}: start Ray anew there"
        )
    for name in sorted({device.name for device in found.devices if device.compute < OLDEST_COMPUTE}):
        lines.append(f"{address}: {name} has no bf16: compute capability 8.0 (A100) or later is needed")
    for number, device in enumerate(found.devices):
        if idle and device.total - device.free > OWN_GIB and need > device.free:
            lines.append(
                f"{address}: GPU {number} has {device.free:.0f} of {device.total:.0f} GiB free, the run takes up to "
                f"{need:.0f} (openrlhf-prefix plan): end what holds the rest, nvidia-smi names it"
            )
    if len(found.devices) > 1 and found.shared < SHARED_GIB:
        lines.append(
            f"{address}: {found.shared * 1024:.0f} MiB of shared memory, NCCL needs {SHARED_GIB * 1024:.0f}: start "
            "the container with --shm-size=16g"
        )
    lines += [
        f"{address}: {part.removesuffix('Builder')} does not load ({why}): run bash scripts/setup.sh there"
        for part, why in found.broken.items()
    ]
    return lines


def line(address: str, found: Found, need: float) -> str:
    """The GPUs of a node in words."""
    kinds = sorted({f"{device.name}, {device.total:.0f} GiB" for device in found.devices})
    free, most = min(device.free for device in found.devices), max(device.total for device in found.devices)
    peers = "" if len(found.devices) < 2 else ", P2P" if found.direct else ", no P2P"
    told = f"{address}: {len(found.devices)} x {' and '.join(kinds)}, {free:.0f} free{peers}, driver {found.driver}"
    if need > most:
        told += f"\nwarning: by its plan the run takes up to {need:.0f} GiB of each of them (openrlhf-prefix plan)"
    return told
