"""Stage 2, beside the others: flash-attn compiled for the GPU that is here, from the sources that were carried.

Six files instead of 72 (carry.py): what a model with heads of 128 in bf16 needs. The build is given what is left of
the time, and is cut then: its row says how far it came. On a CPU a package of one C file is built, installed and
called the same way, and the carried sources are looked at.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from gpu.stage import Outcome, Setting, Skipped, check
from openrlhf_prefix import machine, pins

TARGET, SOURCES = "flash_site", "flash"  # below the folder of the stages
SMALL_SETUP = """
from setuptools import Extension, setup
setup(name="small", version="1", ext_modules=[Extension("small", ["small.c"])])
"""
SMALL_C = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "small", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_small(void) {
    PyObject *made = PyModule_Create(&module);
    if (made) PyModule_AddIntConstant(made, "answer", 42);
    return made;
}
"""


def compilers() -> dict[str, str]:
    """Variables by which DeepSpeed and PyTorch find ninja, nvcc and CUDA's headers.

    The toolkit is the environment's own (set-up puts one there), the one that CUDA_HOME names, or one of the system. A
    small one of the system lacks headers that PyTorch's includes; the wheels of its CUDA libraries have them.
    """
    found = shutil.which("nvcc")
    of_system = [*sorted(map(str, Path("/usr/local").glob("cuda*"))), found and f"{found}/../.."]
    homes = [
        machine.cuda_home(),
        *(Path(home).resolve() for home in (os.environ.get("CUDA_HOME"), *of_system) if home),
    ]
    whole = (home for home in homes if home and (home / "bin/nvcc").exists())
    home = next((home for home in whole if (home / "include/cuda_runtime.h").exists()), None)
    folders = [Path(sys.executable).parent, *([home / "bin"] if home else []), os.environ["PATH"]]
    variables = {"PATH": os.pathsep.join(map(str, folders))}
    if home:
        variables["CUDA_HOME"] = str(home)
        headers = Path(sysconfig.get_paths()["purelib"], "nvidia", "cu13", "include")
        if not (home / "include/cusparse.h").exists() and headers.is_dir():
            variables["CPATH"] = str(headers)
    return variables


def run(setting: Setting) -> Outcome:
    sources = setting.work / SOURCES
    if setting.on_gpu and not pins.missing("flash-attn"):
        return Outcome("flash-attn is installed, nothing is compiled")
    if not setting.on_gpu:
        return _on_cpu(setting, sources)
    if not sources.is_dir():
        raise Skipped("flash-attn is not installed, and its sources are not carried (--carry)")
    if "CUDA_HOME" not in os.environ:
        raise Skipped("there is no CUDA toolkit to compile flash-attn with")
    import torch

    architecture = ".".join(map(str, torch.cuda.get_device_capability()))
    jobs = max(1, min(len(os.sched_getaffinity(0)), int(machine.memory_gb() // machine.JOB_GB)))
    given = {"TORCH_CUDA_ARCH_LIST": architecture, "MAX_JOBS": str(jobs)}
    install(sources, setting.work / TARGET, given, setting.seconds)
    load = [sys.executable, "-c", "import torch, flash_attn_2_cuda, flash_attn; print(flash_attn.__version__)"]
    loaded = subprocess.run(load, capture_output=True, text=True, env=_with(setting.work / TARGET))
    why = (loaded.stderr.strip().splitlines() or [""])[-1]
    check(loaded.returncode == 0, f"what was compiled does not load: {why}")
    kind = architecture.replace(".", "")
    return Outcome(f"flash-attn {loaded.stdout.strip()}, heads of 128 in bf16, compiled for sm_{kind}", given)


def install(sources: Path, target: Path, given: dict[str, str], seconds: float) -> None:
    """Builds a package and puts it into `target`. Raises Skipped where it is not done in time."""
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    build = subprocess.Popen(
        [*command, "--target", str(target), str(sources)], env=os.environ | given, start_new_session=True
    )
    try:
        code = build.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(build.pid, signal.SIGKILL)
        wanted = len(list(sources.rglob("*.cu"))) + 1
        done = len(list(sources.rglob("*.o")))
        raise Skipped(f"not compiled within {seconds:.0f} s: {done} of {wanted} files are done") from None
    check(code == 0, f"the build ended with exit code {code}: the log says why")


def _with(site: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}


def _on_cpu(setting: Setting, sources: Path) -> Outcome:
    small, target = setting.work / "small", setting.work / "small_site"
    small.mkdir()
    (small / "setup.py").write_text(SMALL_SETUP)
    (small / "small.c").write_text(SMALL_C)
    if not importlib.util.find_spec("pip"):
        raise Skipped("this Python has no pip to build with")
    install(small, target, {}, setting.seconds)
    call = [sys.executable, "-c", "import small; print(small.answer)"]
    answer = subprocess.run(call, capture_output=True, text=True, env=_with(target)).stdout.strip()
    check(answer == "42", f"what was built answers {answer!r} and not 42")
    if not sources.is_dir():
        return Outcome("no CUDA: a package of one C file, built the same way")
    kernels = sorted(path.name for path in sources.rglob("*.cu"))
    check(len(kernels) == 6 and (sources / "setup.py").exists(), f"the carried sources have {len(kernels)} kernels")
    return Outcome("no CUDA: a package of one C file, built the same way; 6 kernels are carried")
