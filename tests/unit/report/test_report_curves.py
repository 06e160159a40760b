"""Curves of a long run keep what a reader looks for, its extremes, and those of one picture share their steps."""

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
        "of": 30,
    }


def test_a_thinned_curve_keeps_first_last_and_the_extremes_of_every_stretch() -> None:
    """1,000 steps in 10 stretches of 100: by hand, each has its first step, its smallest and its largest value."""
    generator = random.Random(0)
    rows = [{"step": step, "a": generator.random(), "b": generator.random()} for step in range(1000)]
    rows[417]["a"], rows[623]["b"] = 99.0, -99.0
    found = thinned(rows, ["a", "b"], stretches=10)
    expected = {999}
    for start in range(0, 1000, 100):
        part = rows[start : start + 100]
        expected |= {start}
        for name in "ab":
            expected |= {min(part, key=lambda row: row[name])["step"], max(part, key=lambda row: row[name])["step"]}
    assert found["steps"] == sorted(expected) and found["of"] == 1000
    assert {417, 623} <= expected and len(expected) <= 51
    assert found["values"]["a"][found["steps"].index(417)] == 99.0
    assert len(found["values"]["a"]) == len(found["values"]["b"]) == len(found["steps"])


def test_ten_thousand_steps_take_a_few_thousand_points_at_most() -> None:
    generator = random.Random(1)
    rows = [{"step": step, **{name: generator.random() for name in "abcdef"}} for step in range(10_000)]
    assert len(thinned(rows, list("abcdef"))["steps"]) < 3_200


def test_a_curve_that_was_not_measured_is_left_out_and_a_gap_is_none() -> None:
    """Of two rows of one step, an evaluation's and the step's own, both count."""
    rows = [{"step": 1, "a": 1}, {"step": 2, "b": 2}, {"step": 2, "a": 3}, {"step": 3, "c": 4}]
    found = thinned(rows, ["a", "b", "missing"])
    assert found == {"steps": [1, 2], "values": {"a": [1.0, 3.0], "b": [None, 2.0]}, "of": 2}


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
