"""A comparison on the real stack: two methods, two seeds, two steps each, and the same command once more."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import run

pytestmark = pytest.mark.long

TASK = ".cache/quickstart/task"
COMPARISON = {
    "train": "configs/quickstart.yaml",
    "tasks": {
        "chains": {
            "tune": f"{TASK}/tune.jsonl",
            "sets": {"heldout": f"{TASK}/heldout.jsonl", "longer": f"{TASK}/longer.jsonl"},
        }
    },
    "learning_rates": [3e-4],
    "seeds": [1, 2],
    "few_seeds": True,
    "samples": 4,
    "ks": [1, 4],
    "problems": 16,
    "flags": {
        "data.max_samples": 32,
        "train.micro_batch_size": 16,
        "ckpt.save_steps": -1,
        "eval.n_samples_per_prompt": 1,
    },
    "methods": {
        "prefix_rft": None,
        "sft": {"rollout": {"n_samples_per_prompt": 1, "micro_batch_size": 16}, "train.batch_size": 16},
    },
}


@pytest.fixture(scope="module")
def compared(embedded, tmp_path_factory) -> Path:
    """The folder of the finished comparison."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(COMPARISON))
    done = compare(folder)
    assert done.returncode == 0, done.stdout
    assert "[5/5] chains-" in done.stdout
    return folder / "out"


def compare(folder: Path):
    return run("compare", "--config", folder / "tiny.yaml", "--folder", folder / "out", "--jobs", 2)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_every_run_has_one_line_with_its_numbers(compared) -> None:
    """Two steps of 128 rows of which 16 are prefixed, and of 16 demonstrations, which ask nothing of the engine."""
    rows = {row["run"]: row for row in lines(compared)}
    names = {f"chains-{method}-lr3e-4-seed{seed}" for method in ("prefix_rft", "sft") for seed in (1, 2)}
    assert set(rows) == {"chains-base", *names} and not any("failed" in row for row in rows.values())
    for name in names:
        row = rows[name]
        assert row["steps"] == row["optimizer_steps"] == 2 and row["tokens_trained"] > 0 and row["seconds"] > 0
        assert [step for step, _ in row["curve"]] == [0, 2]
        assert (row["tokens_generated"] == 0) == ("sft" in name)
        assert row["sets"]["heldout"]["problems"] == row["sets"]["longer"]["problems"] == 16
        held_out = row["sets"]["heldout"]
        assert held_out["avg"] == pytest.approx(held_out["pass"]["1"]) and held_out["avg"] <= held_out["pass"]["4"]
    assert rows["chains-sft-lr3e-4-seed1"]["curve"] != rows["chains-sft-lr3e-4-seed2"]["curve"]


def test_the_table_and_the_pictures_are_there(compared) -> None:
    table = (compared / "table.md").read_text()
    assert all(f"| {method} | 3e-4 | 2 |" in table for method in ("prefix_rft", "sft")) and "| base | - | 1 |" in table
    for name in ("curves", "pass", "accuracy"):
        assert (compared / f"chains-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_runs_nothing(compared) -> None:
    before = (compared / "results.jsonl").read_text()
    again = compare(compared.parent)
    assert again.returncode == 0 and "5 runs, 5 of them finished" in again.stdout, again.stdout
    assert (compared / "results.jsonl").read_text() == before
