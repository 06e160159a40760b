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


def test_problems_are_filtered_and_demonstrated_by_the_base_model(embedded, tmp_path):
    """16 problems, 8 samples each: rates are those of the judged samples, `collect` reads the same ones without an
    engine, and a run takes what it wrote."""
    kept, own = tmp_path / "kept.jsonl", tmp_path / "own.jsonl"
    given = ("--policy", embedded / "model", "--samples", 8, "--max_samples", 16, "--max_new_tokens", 48)
    source, folder = embedded / "task" / "train.jsonl", tmp_path / "kept.samples"
    filtered = run("data", "filter", source, kept, *given, "--keep", "0<rate<1")
    assert filtered.returncode == 0 and "128/128" in filtered.stdout, filtered.stdout
    samples = [json.loads(line) for line in lines(folder / "details_train.jsonl")]
    scores: dict[str, list[float]] = {}
    for row in samples:
        scores.setdefault(row["problem"], []).append(row["score"])
    rates = {problem: sum(found) / 8 for problem, found in scores.items()}
    found = {row["id"]: row["pass_rate"] for row in map(json.loads, lines(kept))}
    assert len(rates) == 16 and found == {name: rate for name, rate in rates.items() if 0 < rate < 1} and found

    collected = run("data", "collect", source, own, *given, "--per_problem", 2, "--folder", folder)
    assert collected.returncode == 0 and "samples/s" not in collected.stdout, collected.stdout
    rows = [json.loads(line) for line in lines(own)]
    right = {(row["problem"], row["completion"]) for row in samples if row["score"] and row["finish"] == "stop"}
    assert {(row["id"], text) for row in rows for text in row["demonstrations"]} <= right
    assert len(rows) == 16 and max(len(row["demonstrations"]) for row in rows) in (1, 2)
    assert not any(text.startswith("\\boxed") for row in rows for text in row["demonstrations"])  # guesses
    cost = json.loads((tmp_path / "own.sampling.json").read_text())
    assert cost["tokens_generated"] == sum(row["tokens"] for row in samples) and cost["seconds"] > 0
    flags = ("--data.prompt_dataset", own, "--data.max_samples", 16, "--run.dir", tmp_path / "run")
    taken = run("train", "--config", "configs/quickstart.yaml", *flags, "--dry_run")
    with_own = sum(bool(row["demonstrations"]) for row in rows)
    assert taken.returncode == 0 and f"16 problems, {with_own} with demonstrations" in taken.stdout, taken.stdout
