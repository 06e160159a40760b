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
BROKEN = """
import gpu.ipc, gpu.learner, gpu.numerics

def loss_times(factor):
    from openrlhf_prefix.runtime.learner.actor_trainer import PrefixActorTrainer
    right = PrefixActorTrainer._loss
    PrefixActorTrainer._loss = lambda *given: factor * right(*given)

def trains_backwards(setting):
    loss_times(-1)
    return gpu.learner.train(setting)

def divides_by_another_number(setting):
    loss_times(1.001)
    return gpu.numerics.run(setting)

def loses_a_bucket(setting):
    from openrlhf_prefix.runtime.weights.buckets import Bucket
    right = Bucket.pack
    Bucket.pack = lambda bucket, values, device: right(bucket, values, device).zero_()
    return gpu.ipc.run(setting)

def has_no_gpu(setting):
    raise RuntimeError("CUDA error: out of memory\\nmore about it")
"""


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


@pytest.mark.parametrize(
    ("function", "shows"),
    [
        ("trains_backwards", "training makes right rows less likely"),
        ("divides_by_another_number", "in fp32 a layout is 1.0e-03 from the reference"),
        ("loses_a_bucket", "weights differ after a sync"),
        ("has_no_gpu", "RuntimeError: CUDA error: out of memory"),
    ],
)
def test_a_stage_fails_where_something_is_broken(function: str, shows: str, tmp_path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    result = tmp_path / "result.json"
    given = [f"broken.{function}", "cpu", str(tmp_path), "60", str(result)]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OPENRLHF_PREFIX_PLATFORM": "cpu"}
    environment |= {"TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run([*COMMAND, "--quick", "stage", *given], env=environment, capture_output=True, text=True)
    found = json.loads(result.read_text())
    if found["state"] == "skipped" and "vLLM" in found["shows"]:
        pytest.skip(found["shows"])
    assert found["state"] == "failed" and shows in found["shows"], done.stderr[-2000:]
    assert "\n" not in found["shows"] and ("Traceback" in done.stderr) == (function == "has_no_gpu")
