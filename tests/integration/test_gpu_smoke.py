"""The smoke run of one GPU in its form for a CPU: every stage, and stages that notice what is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "scripts" / "gpu_smoke.py")]


def test_every_stage_has_a_form_for_a_cpu(tmp_path) -> None:
    command = [*COMMAND, "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {row["number"]: row for row in results["stages"]}
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{log[-4000:]}"
    assert list(rows) == list(range(1, 9)) and results["device"] == "cpu" and results["packages"]["torch"]
    assert [row["state"] for number, row in rows.items() if number != 5] == ["ok"] * 7
    if rows[5]["state"] != "ok":  # beside the vLLM of the GPU stack
        assert rows[5]["state"] == "skipped" and "vLLM" in rows[5]["shows"]
    assert rows[3]["numbers"]["gain"] > 0 and len(set(rows[3]["numbers"]["gradient_norms"])) == 3
    assert rows[4]["numbers"]["states_after_MiB"] == rows[3]["numbers"]["states_MiB"] > 0
    numerics = rows[8]["numbers"]
    assert max(numerics["fp32"].values()) < 1e-5 < 1e-3 < max(numerics["bf16"].values()) <= numerics["mixed_precision"]
    assert "Traceback" not in done.stdout
    assert done.stdout.count("\n| 8 | bf16 numerics | ok |") == 2  # as it ends, and in the table


def run_variant(function: str, folder: Path) -> tuple[dict, str]:
    """What a stage of smoke_variants.py found, and its log."""
    result = folder / "result.json"
    given = [f"smoke_variants.{function}", "cpu", str(folder), "60", str(result)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{Path(__file__).parent}:{ROOT}"}
    environment |= {"OPENRLHF_PREFIX_PLATFORM": "cpu", "TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run([*COMMAND, "--quick", "stage", *given], env=environment, capture_output=True, text=True)
    return json.loads(result.read_text()), done.stderr


@pytest.mark.parametrize(
    ("function", "shows"),
    [
        ("trains_backwards", "training makes right rows less likely"),
        ("divides_by_another_number", "in fp32 a layout is 1.0e-03 from the reference"),
        ("loses_what_it_sends", "weights differ after a sync"),
        ("has_no_memory", "RuntimeError: CUDA error: out of memory"),
    ],
)
def test_a_stage_fails_where_something_is_broken(function: str, shows: str, tmp_path) -> None:
    found, log = run_variant(function, tmp_path)
    assert found["state"] == "failed" and shows in found["shows"], log[-2000:]
    assert "\n" not in found["shows"] and ("Traceback" in log) == (function == "has_no_memory")


@pytest.mark.parametrize(
    ("function", "shows"),
    [
        (
            "learner_and_attention",
            "saved asleep, resumed: weights equal, optimizer states 1 MiB as before; 100 MiB awake",
        ),
        ("weights_by_handle", "27 weights, 0.4 MiB, by CUDA IPC in"),
    ],
)
def test_what_stages_do_on_a_gpu_alone_runs_with_stand_ins(function: str, shows: str, tmp_path) -> None:
    found, log = run_variant(function, tmp_path)
    assert found["state"] == "ok" and found["shows"].startswith(shows), f"{found} {log[-2000:]}"
    if function == "learner_and_attention":  # bf16 against fp32
        assert all(1e-5 < error < 0.05 for way in found["numbers"]["compared"].values() for error in way["errors"])
