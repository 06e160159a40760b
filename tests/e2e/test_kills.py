"""SIGKILL to each part of a run: benchmarks/reliability.py, cut short."""

import json
import subprocess
import sys

from conftest import ROOT


def test_killed_parts_cost_nothing_but_time(embedded, tmp_path):
    """An engine in the middle of a step, a trainer rank while it saves, the controller after a save."""
    kills = ["engine:random", "trainer rank:save", "controller:boundary"]
    arguments = ["--kills", "3", "--steps", "4", "--out", str(tmp_path), "--only", *kills]
    command = [sys.executable, "benchmarks/reliability.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {kill["part"]: kill for kill in json.loads((tmp_path / "kills.json").read_text())}
    assert found["engine"]["code"] == 0 and found["engine"]["resumed"] is None  # replaced, and the step completed
    assert found["trainer rank"]["code"] == 1 and found["controller"]["code"] == 1
    assert found["controller"]["resumed"] == found["controller"]["step"]
    assert all(kill["identical"] for kill in found.values())
