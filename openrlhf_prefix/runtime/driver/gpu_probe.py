"""What the GPUs of a node are and can do, looked at by a process of its own: its CUDA contexts end with it.

    python -m openrlhf_prefix.runtime.driver.gpu_probe FusedAdamBuilder flash_attn     Found as JSON, in the last line

An operator of DeepSpeed is loaded as training will load it, which compiles it where that was not done before.
"""

import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from openrlhf_prefix import machine

SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Device:
    name: str
    compute: float  # 9.0 is sm_90
    free: float  # GiB
    total: float


@dataclass
class Found:
    """Of one node."""

    devices: list[Device] = field(default_factory=list)
    failed: str = ""  # why nothing of this is known
    blind: str = ""  # why PyTorch sees no GPU
    driver: str = ""
    shared: float = 0.0  # GiB of shared memory
    direct: bool = True  # every GPU reads the memory of every other
    broken: dict[str, str] = field(default_factory=dict)  # what does not load -> why


def look(parts: Sequence[str]) -> Found:
    """Looks at all GPUs that this process sees.

    Args:
        parts: operators of DeepSpeed, by the names of their builders, and modules.
    """
    shared = Path(SHARED_MEMORY)
    found = Found(shared=shutil.disk_usage(shared).total / 2**30 if shared.exists() else 0.0)
    if not torch.cuda.is_available():
        found.blind = machine.why_no_gpu() if torch.version.cuda else f"PyTorch {torch.__version__} is built for CPUs"
        return found
    numbers = range(torch.cuda.device_count())
    found.devices = [_device(number) for number in numbers]
    found.driver = next((gpu.driver for gpu in machine.find_gpus()), "")
    peers = [(one, other) for one in numbers for other in numbers if one != other]
    found.direct = all(torch.cuda.can_device_access_peer(*pair) for pair in peers)
    for part in parts:
        try:
            _load(part)
        except Exception as error:  # of whatever kind a compiler's or a linker's complaint is
            found.broken[part] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return found


def _device(number: int) -> Device:
    major, minor = torch.cuda.get_device_capability(number)
    free, total = torch.cuda.mem_get_info(number)
    return Device(torch.cuda.get_device_name(number), major + minor / 10, free / 2**30, total / 2**30)


def _load(part: str) -> None:
    if part.endswith("Builder"):
        getattr(importlib.import_module("deepspeed.ops.op_builder"), part)().load(verbose=False)
    else:
        importlib.import_module(part)


def read(printed: str) -> Found:
    """What the command above has found; DeepSpeed and compilers print before it."""
    fields = json.loads(printed.strip().splitlines()[-1])
    return Found(**{**fields, "devices": [Device(**device) for device in fields["devices"]]})


if __name__ == "__main__":
    print(json.dumps(asdict(look(sys.argv[1:]))))
