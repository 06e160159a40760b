"""Curves of a long run keep their trend and their extremes, and those of one picture share their steps."""

import random
from pathlib import Path

from openrlhf_prefix.report.curves import CHARTS, charts, derived, thinned
from openrlhf_prefix.report.reading import Run


def run(*rows: dict) -> Run:
    return Run("a", Path("a"), {}, {}, {}, list(rows), [], [])


def test_a_short_run_is_whole() -> None:
    rows = [{"step": step, "a": step / 3} for step in range(1, 31)]
    assert thinned(rows, ["a"], stretches=10) == {
        "steps": list(range(1, 31)),
        "values": {"a": [float(f"{step / 3:.5g}") for step in range(1, 31)]},
        "each": 1,
    }


def test_a_stretch_of_a_long_run_has_its_mean_and_its_extremes() -> None:
    """1,003 steps in 10 stretches of 100 or 101: 100 more in the fifth is 1 more
    in its mean, 100 less among the 101 of the seventh 0.9901 less."""
    rows = [{"step": step, "a": 0.5, "b": float(step)} for step in range(1003)]
    rows[417]["a"], rows[623]["a"] = 100.5, -99.5
    found = thinned(rows, ["a", "b"], stretches=10)
    assert found["each"] == 100 and found["steps"][:5] == [50, 150, 250, 350, 451] and len(found["steps"]) == 10
    assert (
        found["high"]["a"] == [0.5] * 4 + [100.5] + [0.5] * 5 and found["low"]["a"] == [0.5] * 6 + [-99.5] + [0.5] * 3
    )
    assert found["values"]["a"] == [0.5] * 4 + [1.5] + [0.5] + [-0.4901] + [0.5] * 3
    assert found["low"]["b"][0] == 0 and found["values"]["b"][0] == 49.5 and found["high"]["b"][-1] == 1002


def test_every_step_is_in_a_stretch() -> None:
    """The mean over stretches, weighted by their sizes, is that over steps: 10,007 ones and sevens."""
    generator = random.Random(0)
    rows = [{"step": step, "a": generator.choice([1, 7])} for step in range(10_007)]
    found = thinned(rows, ["a"])
    ends = [number * 10_007 // 300 for number in range(301)]
    whole = sum(value * (ends[n + 1] - ends[n]) for n, value in enumerate(found["values"]["a"]))
    assert len(found["steps"]) == 300 and abs(whole / sum(row["a"] for row in rows) - 1) < 1e-4


def test_a_curve_that_was_not_measured_is_left_out_and_a_gap_is_none() -> None:
    """Of two rows of one step, an evaluation's and the step's own, both count."""
    rows = [{"step": 1, "a": 1}, {"step": 2, "b": 2}, {"step": 2, "a": 3}, {"step": 3, "c": 4}]
    found = thinned(rows, ["a", "b", "missing"])
    assert found == {"steps": [1, 2], "values": {"a": [1.0, 3.0], "b": [None, 2.0]}, "each": 1}


def test_what_follows_from_the_metrics() -> None:
    """48 of 128 rows are 37.5 %; 3,000 tokens in 2 s; a window is nothing without rows drawn from it."""
    row = {"step": 1, "train/rows_skipped": 48, "rollout/num_samples": 128, "prefix/low": 0.5, "prefix/rows": 0}
    row |= {"rollout/tokens_generated": 3000, "timing/step_total": 2.0, "verifier/timeout": 1, "verifier/crash": 2}
    found = derived(row)
    assert (found["share/no_gradient"], found["speed"], found["stopped"]) == (0.375, 1500, 3)
    assert "prefix/low" not in found and "prefix/low" in derived(row | {"prefix/rows": 16})


def test_a_picture_without_a_point_in_any_run_is_left_out() -> None:
    """The second run alone has a gradient; a metric of the user's own reward has a picture of its own."""
    found = charts([run({"step": 1, "reward": 0.5}), run({"step": 1, "actor_grad_norm": 2.0, "mine": 7})])
    assert [chart["title"] for chart in found] == ["Reward", "Gradient norm", "mine"]
    gradient = found[1]["runs"]
    assert gradient[0]["steps"] == [] and gradient[1]["values"] == {"actor_grad_norm": [2.0]}


def test_every_curve_of_the_issue_has_its_picture() -> None:
    """Those that a reader was promised, by the names that a run gives them."""
    promised = (
        "reward/plain reward/prefixed prefix/low prefix/high prefix/ratio rollout/entropy entropy_loss prefix/kept "
        "actor_grad_norm rollout/response_length_mean rollout/truncated_rate share/no_gradient verifier/different "
        "verifier/no_answer speed timing/generation timing/ppo_train timing/broadcast memory/learner"
    )
    assert set(promised.split()) <= {name for chart in CHARTS for name in chart.curves}
