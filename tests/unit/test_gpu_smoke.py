"""The smoke run of one GPU, but for its stages: what they leave behind, and what is carried to the machine."""

import io
import json
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from openrlhf_prefix import pins
from openrlhf_prefix.errors import UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from gpu import build, carry, run  # noqa: E402
from gpu.run import Options, Stage  # noqa: E402

STAGE = """
import json, os, signal, subprocess, sys, time
function, device, work, seconds, result = sys.argv[sys.argv.index("stage") + 1 :]
def tell(state, shows):
    with open(result, "w") as file:
        json.dump({"state": state, "shows": shows, "seconds": 0.5, "numbers": {"given": float(seconds)}}, file)
if function == "dies":
    print("no memory", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if function == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(os.path.join(work, "..", "child"), "w").write(str(child.pid))
    time.sleep(60)
if function == "slow":
    time.sleep(1)
tell("skipped" if function == "skips" else "failed" if function == "fails" else "ok", f"{device} {function}")
"""


@pytest.fixture
def smoke(monkeypatch, tmp_path):
    """Runs stages whose processes are the program above; exit code and results."""
    command = tmp_path / "command.py"
    command.write_text(STAGE)
    monkeypatch.setattr(run, "COMMAND", command)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(run.tempfile, "tempdir", None)

    def start(*stages: Stage, device: str = "cpu", seconds: float = 30.0):
        code = run.run(Options(device, False, None, tmp_path / "out", seconds), stages)
        return code, json.loads((tmp_path / "out" / "results.json").read_text())

    return start


def states(results: dict) -> list[str]:
    return [row["state"] for row in results["stages"]]


def test_what_breaks_one_stage_leaves_the_others_their_turn(smoke, tmp_path) -> None:
    code, results = smoke(
        Stage(1, "one", "dies", 20),
        Stage(2, "two", "slow", 20, beside=True),
        Stage(3, "three", "hangs", 3),
        Stage(4, "four", "works", 20),
        Stage(6, "six", "skips", 20),
        Stage(5, "five", "works", 20, after="two"),
    )
    assert code == 1 and states(results) == ["failed", "ok", "failed", "ok", "ok", "skipped"]
    shows = [row["shows"] for row in results["stages"]]
    assert shows[0] == "its process ended with exit code -9: no memory"
    assert shows[2].startswith("not done after ")
    assert shows[3:] == ["cpu works", "cpu works", "cpu skips"]
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert (
        len(table) == 2 + 6
        and table[2] == f"| 1 | one | failed | {results['stages'][0]['seconds']:.1f} | {shows[0]} |"
    )
    assert "no memory" in (tmp_path / "out" / "log.txt").read_text()
    child = Path("/proc") / (tmp_path / "child").read_text() / "stat"  # what the killed stage had started
    deadline = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"


@pytest.mark.parametrize("before", ["skips", "fails"])
def test_a_stage_without_the_one_before_it_is_skipped(smoke, before) -> None:
    code, results = smoke(Stage(1, "one", before, 20), Stage(2, "two", "works", 20, after="one"))
    assert states(results) == [{"skips": "skipped", "fails": "failed"}[before], "skipped"] and code == 1
    assert results["stages"][1]["shows"] == f"stage 'one' {states(results)[0]}"


def test_it_succeeds_where_one_ran_and_none_failed(smoke) -> None:
    assert smoke(Stage(1, "one", "works", 20), Stage(2, "two", "skips", 20))[0] == 0
    assert smoke(Stage(1, "one", "skips", 20))[0] == 1


@pytest.fixture
def h100(monkeypatch) -> None:
    monkeypatch.setattr(run.machine, "find_gpus", lambda: [run.machine.Gpu("H100", 9.0, 81559, "580.95")])


@pytest.mark.parametrize(("device", "room"), [("cuda", [True, False, False]), ("cpu", [True, True, False])])
def test_one_stage_has_the_gpu_for_itself(device, room, tmp_path) -> None:
    with run.Runner(Options(device, False, None, tmp_path, 10.0), tmp_path) as runner:
        builds, computes = (SimpleNamespace(stage=Stage(1, "", "", 1.0, beside=beside)) for beside in (True, False))
        found = []
        for number in range(3):
            runner.running = [builds, *[computes] * number]
            found.append(runner.has_room())
        runner.running = []
    assert found == room


def test_stages_share_the_time_of_the_run(smoke, h100) -> None:
    stages = (Stage(1, "one", "slow", 20), Stage(2, "two", "works", 20))
    code, results = smoke(*stages, device="cuda", seconds=5.9)
    given = [row.get("numbers", {}).get("given") for row in results["stages"]]
    assert states(results) == ["ok", "skipped"] and code == 0
    assert given[0] == pytest.approx(1.0, abs=0.2)  # of 5.9 s, without those in which it ends itself
    assert results["stages"][1]["shows"] == "the 6 s of the run are over"


def test_without_a_gpu_every_row_says_so(smoke, monkeypatch) -> None:
    monkeypatch.setattr(run.machine, "find_gpus", lambda: [])
    code, results = smoke(Stage(1, "one", "works", 20), Stage(2, "two", "works", 20, beside=True), device="cuda")
    assert code == 1 and states(results) == ["skipped", "skipped"]
    assert all(row["shows"].startswith("nvidia-smi shows none") for row in results["stages"])


def test_every_stage_that_is_waited_for_comes_first() -> None:
    names = [stage.name for stage in run.STAGES]
    assert sorted(stage.number for stage in run.STAGES) == list(range(1, 9))
    assert all(stage.after in names[: names.index(stage.name)] for stage in run.STAGES if stage.after)
    serial = sum(stage.seconds for stage in run.STAGES if not stage.beside)
    assert run.SECONDS["cuda"] < 600 < serial  # each may take long, together they are cut


def test_compilers_are_found_with_the_headers_that_a_small_toolkit_lacks(tmp_path, monkeypatch) -> None:
    """PyTorch's headers include cusparse.h: FusedAdam does not compile without it."""
    home, purelib = tmp_path / "cuda", tmp_path / "purelib"
    headers = purelib / "nvidia" / "cu13" / "include"
    for folder in (home / "bin", home / "include", headers):
        folder.mkdir(parents=True)
    monkeypatch.setattr(build.sysconfig, "get_paths", lambda: {"purelib": str(purelib)})
    monkeypatch.setattr(build.machine, "cuda_home", lambda: None)
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert build.compilers().get("CUDA_HOME") != str(home)  # nothing in it
    (home / "bin" / "nvcc").touch()
    (home / "include" / "cuda_runtime.h").touch()
    found = build.compilers()
    assert found["CUDA_HOME"] == str(home) and found["CPATH"] == str(headers)
    assert found["PATH"].split(":")[:2] == [str(Path(sys.executable).parent), str(home / "bin")]
    (home / "include" / "cusparse.h").touch()
    assert "CPATH" not in build.compilers()


def test_what_is_carried_has_a_version_in_the_lock() -> None:
    assert sorted(line.partition("==")[0] for line in carry.locked()) == sorted(carry.WANTED)
    assert f"openrlhf=={pins.OPENRLHF}" in carry.locked()


def sources(kernels: list[str]) -> bytes:
    """A source archive like flash-attn's, with these kernels."""
    files = {f"csrc/flash_attn/src/{name}": "kernel" for name in kernels} | {
        "setup.py": "72 files",
        "flash_attn/bert_padding.py": "padding",
        "flash_attn/cute/mask.py": "another generation",
        "csrc/flash_attn/flash_api.cpp": "api",
        "csrc/flash_attn/src/static_switch.h": "#pragma once",
        "csrc/cutlass/include/cute/tensor.hpp": "cutlass",
        "csrc/cutlass/test/large.cu": "not needed",
    }
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, content in files.items():
            carry._add(archive, f"flash_attn-{pins.FLASH_ATTN}/{name}", content.encode())
    return whole.getvalue()


KERNELS = [f"flash_{k}_hdim128_bf16_{c}sm80.cu" for k in ("fwd", "bwd", "fwd_split") for c in ("", "causal_")]


def test_flash_attn_is_cut_to_the_kernels_that_are_compiled(tmp_path) -> None:
    others = ["flash_fwd_hdim64_bf16_sm80.cu", "flash_bwd_hdim128_fp16_sm80.cu"]
    carry.cut(sources(KERNELS + others), tmp_path / "flash.tar.gz")
    with tarfile.open(tmp_path / "flash.tar.gz") as archive:
        kept = {name.removeprefix("flash/"): archive.extractfile(name).read().decode() for name in archive.getnames()}
    assert {Path(name).name for name in kept if name.endswith(".cu")} == set(KERNELS)
    assert {
        "flash_attn/bert_padding.py",
        "csrc/flash_attn/flash_api.cpp",
        "csrc/cutlass/include/cute/tensor.hpp",
    } < set(kept)
    assert not any("cute/mask.py" in name for name in kept)
    assert kept["csrc/flash_attn/src/static_switch.h"].count("#undef") == 2
    assert f'version="{pins.FLASH_ATTN}"' in kept["setup.py"]
    compile(kept["setup.py"], "setup.py", "exec")


def test_sources_that_have_changed_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="5 kernels"):
        carry.cut(sources(KERNELS[1:]), tmp_path / "flash.tar.gz")


def test_a_folder_that_is_not_one_of_ours_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(carry.platform, "python_version", lambda: "3.12.3")
    with pytest.raises(UserError, match=r"has no site.tar.gz: make it with"):
        carry.unpack(tmp_path, tmp_path)
    monkeypatch.setattr(carry.platform, "python_version", lambda: "3.11.7")
    with pytest.raises(UserError, match="Python 3.12, and this is 3.11.7"):
        carry.unpack(tmp_path, tmp_path)
