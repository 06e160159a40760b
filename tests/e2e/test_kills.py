"""SIGKILL to parts of a run: benchmarks/reliability.py, cut short. test_resume.py kills a controller by default."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.long
def test_killed_parts_cost_nothing_but_time(embedded, tmp_path):
    """An engine in the middle of a step, and a trainer rank while it saves."""
    found = {kill["part"]: kill for kill in killed(tmp_path, "engine:random", "trainer rank:save")}
    assert found["engine"]["code"] == 0 and found["engine"]["resumed"] is None  # replaced, and the step completed
    assert found["trainer rank"]["code"] == 1
    assert all(kill["identical"] for kill in found.values())


@pytest.mark.long
def test_a_controller_killed_after_a_save_goes_on_from_it_to_the_same_end(embedded, tmp_path):
    (kill,) = killed(tmp_path, "controller:boundary")
    assert kill["code"] == 1 and kill["resumed"] == kill["step"] and kill["identical"]


def killed(folder, *kills):
    arguments = ["--kills", str(len(kills)), "--steps", "12", "--out", str(folder), "--only", *kills]
    command = [sys.executable, "benchmarks/reliability.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "kills.json").read_text())
