"""`evaluate` with the real vLLM: a file in LUFFY's layout, killed and resumed, and held against itself."""

import json
import os
import signal
import subprocess
import time

from benchmark_files import luffy_file
from conftest import ROOT, command, run

OPTIONS = ("--samples", 400, "--k", 1, 8, "--max_new_tokens", 64, "--temperature", 1)


def lines(path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_killed_evaluation_is_resumed_and_compared(embedded, tmp_path):
    """1,600 samples; killed by SIGKILL as soon as 50 of one task are written. The resumed evaluation draws the others
    with the seeds that they would have had: the same sample of the same problem says the same but for rounding."""
    path, killed, whole = luffy_file(tmp_path / "valid.parquet", repeats=2), tmp_path / "killed", tmp_path / "whole"
    words = ("evaluate", embedded / "model", path, *OPTIONS)
    process = subprocess.Popen(
        command(*words, "--output", killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(lines(killed / "details_math.jsonl")) < 50 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"
    kept = sum(len(lines(file)) for file in killed.glob("details_*"))
    assert 50 <= kept < 1600

    refused = run(*words, "--output", killed)
    assert refused.returncode == 2 and "--resume goes on with it" in refused.stdout
    resumed = run(*words, "--output", killed, "--resume")
    assert resumed.returncode == 0, resumed.stdout
    assert "samples/s" in resumed.stdout and "1600/1600" in resumed.stdout
    (found,) = (json.loads(file.read_text()) for file in killed.glob("results_*.json"))
    assert [(row["problems"], row["samples"]) for row in found["results"].values()] == [(2, 400), (2, 400)]
    assert sum(len(lines(file)) for file in killed.glob("details_*")) == 1600

    compared = run(*words, "--output", whole, "--against", killed)
    assert compared.returncode == 0, compared.stdout
    (comparison,) = (json.loads(file.read_text()) for file in whole.glob("comparison_*.json"))
    assert all(abs(gain["gain"]) < 0.02 for gain in comparison["gains"])  # other seeds: sqrt(2 p q / 800) is 0.025
    texts = [
        {
            (row["problem"], row["sample"]): row["completion"]
            for row in map(json.loads, lines(folder / "details_aime.jsonl"))
        }
        for folder in (killed, whole)
    ]
    same = [texts[0][key] == text for key, text in texts[1].items()]
    assert len(same) == 800 and sum(same) > 0.95 * len(same)
