"""scripts/setup.sh on machines with GPUs: its steps, with stand-ins for the packages, the compilers and the driver."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openrlhf_prefix import pins

ROOT = Path(__file__).parents[2]
SDIST = f"flash_attn-{pins.FLASH_ATTN}"
# Notes down what it is asked, and does what a test has put into the files beside it; the rest is Python's own.
PYTHON = """#!/bin/bash
here={place}
case "$*" in
  *"pip config"*) exit 1 ;;
  *"pip install"*) exit 0 ;;
  *"pip download"*)
    echo download >>$here/done
    mkdir -p $here/{sdist} && touch $here/{sdist}/setup.py
    [[ "$*" =~ "-d "([^ ]+) ]] && tar -czf "${{BASH_REMATCH[1]}}/{sdist}.tar.gz" -C $here {sdist} ;;
  *torch.version.cuda*) cat $here/torch ;;
  *"machine.py --cuda") echo $here/cu13 ;;
  *FusedAdamBuilder*)
    echo "adam $CUDA_HOME $DS_ACCELERATOR $TORCH_CUDA_ARCH_LIST ${{PATH%%:*}}" >>$here/done
    . $here/adam ;;
  "setup.py bdist_wheel"*)
    echo "build $FLASH_ATTN_CUDA_ARCHS $MAX_JOBS $NVCC_THREADS $FLASH_ATTENTION_FORCE_BUILD $CUDA_HOME" >>$here/done
    echo "[7/73] nvcc flash_bwd.cu"
    . $here/build
    touch "${{@: -1}}/{sdist}-cp311-cp311-linux_x86_64.whl" ;;
  *"import torch, transformers"*) ;;
  *) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A machine with an H100, and an environment in which everything goes well."""
    for folder in ("tools", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    executable(tmp_path / "tools/nvidia-smi", "#!/bin/sh\necho 'NVIDIA H100, 9.0, 81559, 580.95.05'\n")
    executable(tmp_path / "tools/g++", "#!/bin/sh\n")
    executable(tmp_path / "venv/bin/python", PYTHON.format(place=tmp_path, sdist=SDIST, python=sys.executable))
    executable(tmp_path / "venv/bin/uv", f'#!/bin/bash\necho "uv $(basename "${{@: -1}}")" >>{tmp_path}/done\n')
    (tmp_path / "torch").write_text("2.13.0+cu130\n")
    (tmp_path / "adam").write_text("")
    (tmp_path / "build").write_text("")
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def command(place: Path, **environment: str) -> tuple[list[str], dict[str, str]]:
    return ["bash", str(ROOT / "scripts/setup.sh")], {
        "PATH": f"{place / 'tools'}{os.pathsep}{os.environ['PATH']}",
        "VENV": str(place / "venv"),
        "PYTHON": sys.executable,
        "XDG_CACHE_HOME": str(place / "cache"),
        "MAX_JOBS": "5",
        **environment,
    }


def setup(place: Path, **environment: str) -> subprocess.CompletedProcess:
    words, variables = command(place, **environment)
    return subprocess.run(words, capture_output=True, text=True, env=variables, timeout=60)


def done(place: Path, what: str) -> list[str]:
    """What was asked of the stand-ins, of one kind, so far."""
    lines = (place / "done").read_text().splitlines() if (place / "done").exists() else []
    return [line.removeprefix(f"{what} ") for line in lines if line.startswith(what)]


def ready(ended: subprocess.CompletedProcess) -> bool:
    return ended.returncode == 0 and "setup: ready" in ended.stdout


def test_flash_attn_is_compiled_for_the_gpus_here_and_its_wheel_is_kept(place: Path) -> None:
    assert ready(setup(place))
    assert done(place, "build") == [f"90 5 1 TRUE {place}/cu13"]
    (wheel,) = (place / "cache").rglob("*.whl")
    assert done(place, "uv")[-1] == wheel.name
    (place / "venv/.stack").unlink()
    (place / "venv/.steps").unlink()
    assert ready(setup(place))  # another environment
    assert len(done(place, "build")) == 1 and done(place, "uv")[-1] == wheel.name


def test_what_is_compiled_can_be_chosen(place: Path) -> None:
    """An image is built where there is no GPU."""
    executable(place / "tools/nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert ready(setup(place, STACK="gpu", FLASH_ATTN_CUDA_ARCHS="90;120"))
    assert done(place, "build")[0].startswith("90;120 5 ") and " 9.0;12.0 " in done(place, "adam")[0]


def test_a_build_shows_how_far_it_is(place: Path) -> None:
    (place / "build").write_text("sleep 1\n")
    assert f"setup: flash-attn [7/73] after 0 min ({place}/cache" in setup(place, PROGRESS_SECONDS="0.2").stdout


def test_a_build_that_broke_goes_on_in_its_folder(place: Path) -> None:
    """With what it has compiled by then; the packages and FusedAdam are not made again."""
    (place / "build").write_text("touch object\nexit 1\n")
    refused = setup(place, ATTENTION="flash")
    assert refused.returncode == 2 and "[7/73] nvcc" in refused.stderr
    assert "flash-attn could not be installed" in refused.stderr
    (place / "build").write_text("[[ -e object ]] || exit 1\n")
    assert ready(setup(place, ATTENTION="flash"))
    assert len(done(place, "download")) == len(done(place, "adam")) == 1 and len(done(place, "build")) == 2


def test_where_it_was_not_asked_for_a_failed_build_leaves_sdpa_and_says_so(place: Path) -> None:
    (place / "build").write_text("exit 1\n")
    ended = setup(place)
    assert ready(ended) and "attention is sdpa, slower and without packing" in ended.stderr


def test_a_wheel_from_elsewhere_is_taken(place: Path) -> None:
    (place / "mine.whl").touch()
    assert ready(setup(place, FLASH_ATTN_WHEEL=str(place / "mine.whl")))
    assert not done(place, "build") and done(place, "uv")[-1] == "mine.whl"


def test_without_flash_attn_nothing_of_it_is_made(place: Path) -> None:
    ended = setup(place, ATTENTION="sdpa")
    assert ready(ended) and not ended.stderr and not done(place, "build") and not (place / "cache").exists()


def test_fused_adam_is_compiled_by_the_compiler_of_the_environment(place: Path) -> None:
    assert ready(setup(place, CUDA_HOME="/usr/local/cuda-13.2", ATTENTION="sdpa"))
    assert done(place, "adam") == [f"{place}/cu13 cuda 9.0 {place}/venv/bin"]


def test_a_fused_adam_that_does_not_compile_ends_set_up_with_its_last_lines(place: Path) -> None:
    (place / "adam").write_text("echo fatal error: Python.h; exit 1\n")
    refused = setup(place)
    assert refused.returncode == 2 and "fatal error: Python.h" in refused.stderr and not done(place, "build")
    assert "FusedAdam did not compile" in refused.stderr and not (place / "venv/.stack").exists()


def test_a_killed_compiler_is_not_waited_for(place: Path) -> None:
    """The lock that one who compiles has open stays."""
    locks = [place / version / "fused_adam/lock" for version in ("py311_cu130", "py312_cu130")]
    for lock in locks:
        lock.parent.mkdir(parents=True)
        lock.touch()
    with locks[1].open():
        assert ready(setup(place, ATTENTION="sdpa", TORCH_EXTENSIONS_DIR=str(place)))
    assert [lock.exists() for lock in locks] == [False, True]


def test_a_torch_for_cpus_is_refused_before_anything_is_compiled(place: Path) -> None:
    """A package source of the user's own had one; what was said then was flash-attn's complaint about nvcc."""
    (place / "torch").write_text("None\n")
    refused = setup(place)
    assert refused.returncode == 2 and "is a CPU build" in refused.stderr and "PIP_FIND_LINKS" in refused.stderr
    assert not done(place, "adam") and not done(place, "build")


def test_all_packages_are_resolved_at_once(place: Path) -> None:
    """By the lock of this Python: two resolutions installed transformers twice. The second call is this package."""
    assert ready(setup(place, ATTENTION="sdpa"))
    assert done(place, "uv") == [f"gpu-py{sys.version_info[0]}.{sys.version_info[1]}.txt", "."]


@pytest.mark.parametrize("build", ["exec sleep 600", "trap 'kill %1; exit 1' INT; sleep 600 & wait"])
def test_a_ctrl_c_ends_set_up_and_its_compilers(place: Path, build: str) -> None:
    """Those, too, that end in good order: it was no failed build, after which attention would be sdpa."""
    (place / "build").write_text(f"echo $$ >{place}/pid; {build}\n")
    words, variables = command(place)
    silent = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    running = subprocess.Popen(words, env=variables, start_new_session=True, **silent)
    deadline = time.monotonic() + 20
    while not (place / "pid").exists() or not (place / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(timeout=20) == 130 and not (place / "venv/.stack").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((place / "pid").read_text()), 0)
