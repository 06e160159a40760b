"""Lines become means, intervals, a table and pictures."""

from dataclasses import replace
from pathlib import Path

import pytest

from openrlhf_prefix.comparison.plan import Plan, Run, Task
from openrlhf_prefix.comparison.plots import draw
from openrlhf_prefix.comparison.summary import choose_rate, entries, missing
from openrlhf_prefix.comparison.table import table

PLAN = Plan(
    train="base.yaml",
    tasks={"chains": Task("tune.jsonl", {"heldout": "h.jsonl", "longer": "l.jsonl"})},
    methods={"sft": {}, "rft": {}},
    learning_rates=[3e-4, 1e-4, 2e-4],
    seeds=[1, 2, 3],
    samples=16,
    ks=[1, 16],
    panels={"one": ["rft"], "both": ["sft", "rft"]},
)
TUNED = {"sft": {1e-4: 0.2, 2e-4: 0.5, 3e-4: 0.4}, "rft": {1e-4: 0.3, 2e-4: 0.3, 3e-4: 0.1}}
FINAL = {"sft": [0.5, 0.6, 0.7], "rft": [0.8, 0.8, 0.8]}


def scored(accuracy: float) -> dict:
    row = {"problems": 8, "avg": accuracy, "pass": {"1": accuracy, "16": 1.0}}
    return {"heldout": row, "longer": {**row, "avg": accuracy / 2}}


def make_lines(final: dict = FINAL) -> dict[str, dict]:
    lines = {"chains-base": {"sets": scored(0.1)}}
    for method, scores in TUNED.items():
        for lr, accuracy in scores.items():
            lines[Run("tune", "chains", method, lr, 0).name] = {"curve": [[20, accuracy]]}
    for method, lr in (("sft", 2e-4), ("rft", 1e-4)):
        for run, accuracy in zip(PLAN.final("chains", method, lr), final.get(method, []), strict=False):
            lines[run.name] = {
                "sets": scored(accuracy),
                "curve": [[0, 0.1], [10 * run.seed, 0.2], [20, accuracy]],
                "optimizer_steps": 20,
                "tokens_generated": 1000.0 * run.seed,
                "tokens_trained": 500.0,
                "seconds": 60.0,
            }
    return lines


def test_the_best_rate_is_chosen_and_of_equal_ones_the_smallest() -> None:
    lines = make_lines()
    assert choose_rate(PLAN, lines, "chains", "sft") == 2e-4
    assert choose_rate(PLAN, lines, "chains", "rft") == 1e-4


def test_a_failed_tuning_run_is_left_out_of_the_choice() -> None:
    lines = make_lines()
    del lines["chains-sft-lr2e-4-tune0"]
    assert choose_rate(PLAN, lines, "chains", "sft") == 3e-4
    del lines["chains-sft-lr1e-4-tune0"], lines["chains-sft-lr3e-4-tune0"]
    assert choose_rate(PLAN, lines, "chains", "sft") is None
    assert "chains-sft: no learning rate to train at" in missing(PLAN, lines)


def test_methods_are_sorted_by_what_came_out_behind_the_base() -> None:
    assert [entry.method for entry in entries(PLAN, make_lines(), "chains")] == ["base", "rft", "sft"]


def test_runs_at_another_rate_or_of_another_seed_do_not_count() -> None:
    lines = make_lines()
    lines[Run("final", "chains", "sft", 1e-4, 1).name] = {"sets": scored(1.0)}
    lines[Run("final", "chains", "sft", 2e-4, 9).name] = {"sets": scored(1.0)}
    sft = entries(PLAN, lines, "chains")[2]
    assert sft.lr == 2e-4 and sft.accuracy("heldout")[0] == pytest.approx(0.6)


def test_a_curve_has_the_steps_that_all_seeds_have() -> None:
    """Seeds 1, 2, 3 have steps 0, 10, 20; 0, 20, 20; 0, 30, 20: of two values at one step the later one holds."""
    sft = entries(PLAN, make_lines(), "chains")[2]
    assert [step for step, _ in sft.curve()] == [0, 20]
    assert sft.curve()[1][1] == pytest.approx((0.6, 0.2484), abs=1e-4)


def test_the_table_by_hand() -> None:
    """0.5, 0.6, 0.7 is 60.0 +- 24.8 (t = 4.3027, s = 0.1); halved 30.0 +- 12.4. Tokens 1000, 2000, 3000: +- 2,484."""
    rows = [line for line in table(PLAN, make_lines(), {}).splitlines() if line.startswith("|")]
    assert rows[0] == (
        "| method | learning rate | runs | heldout avg@16 | heldout pass@16 | longer avg@16 | longer pass@16 | "
        "tokens generated | tokens trained | seconds |"
    )
    assert rows[2] == "| base | - | 1 | 10.0 | 100.0 | 5.0 | 100.0 | - | - | - |"
    assert rows[3].startswith("| rft | 1e-4 | 3 | 80.0 +- 0.0 | 100.0 +- 0.0 | 40.0 +- 0.0 |")
    assert rows[4] == (
        "| sft | 2e-4 | 3 | 60.0 +- 24.8 | 100.0 +- 0.0 | 30.0 +- 12.4 | 100.0 +- 0.0 | 2,000 +- 2,484 | 500 +- 0 | "
        "60 +- 0 |"
    )


def test_the_table_shows_the_grid_and_marks_its_edges() -> None:
    """rft is best at the smallest rate of the grid, sft in its middle."""
    text = table(PLAN, make_lines(), {})
    assert "| method | 1e-4 | 2e-4 | 3e-4 |" in text
    assert "| sft | 20.0 | **50.0** | 40.0 |" in text and "| rft | <- **30.0** | 30.0 | 10.0 |" in text
    assert "Optimizer steps: 20 each. Held-out problems: 8 a set, 16 samples" in text


def test_a_task_with_one_rate_has_no_grid_beside_one_that_was_tuned() -> None:
    other = replace(PLAN.tasks["chains"], learning_rates=[1e-3])
    text = table(replace(PLAN, tasks={**PLAN.tasks, "other": other}), make_lines(), {})
    first, second = text.split("## other")
    assert "| method | 1e-4 |" in first and "learning rate of the grid" in first
    assert "| method | 1e-3 |" not in second and "learning rate of the grid" not in second


def test_a_failed_run_stands_in_the_table_with_its_reason() -> None:
    lines = make_lines({"sft": FINAL["sft"][:1]})
    text = table(PLAN, lines, {"chains-rft-lr1e-4-seed1": {"failed": "train ended with exit code 1"}})
    assert "- `chains-rft-lr1e-4-seed1`: train ended with exit code 1" in text
    assert "| sft | 2e-4 | 1 | 50.0 |" in text and "| rft | 1e-4 |" not in text
    assert missing(PLAN, lines) == [
        *(f"chains-sft-lr2e-4-seed{seed}" for seed in (2, 3)),
        *(f"chains-rft-lr1e-4-seed{seed}" for seed in (1, 2, 3)),
    ]


def test_every_task_has_three_pictures(tmp_path: Path) -> None:
    paths = draw(PLAN, make_lines(), tmp_path)
    assert [path.name for path in paths] == ["chains-curves.png", "chains-pass.png", "chains-accuracy.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert draw(PLAN, {"chains-base": {"sets": scored(0.1)}}, tmp_path) == []
