"""Held-out scores: base, best and last with intervals, from the counts of every problem."""

from pathlib import Path

import pytest

from openrlhf_prefix.report.reading import Run
from openrlhf_prefix.report.scores import band, scores


def run(evaluations: list[dict], beside: list[dict] = (), **flags: object) -> Run:
    return Run("a", Path("a"), flags, {}, {}, [], list(beside), evaluations)


def judged(step: int, *correct: int) -> dict:
    problems = [f"p{number}" for number in range(len(correct))]
    return {"step": step, "source": "x", "problems": problems, "correct": list(correct), "judged": [4] * len(correct)}


def test_the_band_by_hand() -> None:
    """0, 0.5, 1: mean 0.5, s = 0.5, 1.96 x 0.5 / sqrt(3) = 0.5658 is cut to [0, 1]. 4 x 0.5 and 4 x 0.6: s = 0.05345,
    1.96 x 0.05345 / sqrt(8) = 0.03704."""
    assert band([0.0, 0.5, 1.0]) == [0.5, 0.0, 1.0]
    assert band([0.5, 0.6] * 4) == pytest.approx([0.55, 0.55 - 0.03704, 0.55 + 0.03704], abs=2e-5)
    assert band([0.25]) == [0.25, None, None]


def test_base_best_and_last() -> None:
    """pass1: 1/16, 12/16, 8/16 of 4 problems with 4 samples. From base to last every problem gains: 1.75 / 4."""
    found = scores(run([judged(0, 0, 0, 0, 1), judged(5, 4, 4, 4, 0), judged(10, 2, 2, 2, 2)]))
    assert (found["best_step"], found["last_step"], found["problems"], found["samples"]) == (5, 10, 4, 4)
    first, second = found["metrics"]
    assert (first["name"], second["name"]) == ("x_pass1", "x_pass4")
    assert [first[which][0] for which in ("base", "best", "last")] == [0.0625, 0.75, 0.5]
    assert first["gain"][0] == pytest.approx(0.4375) and first["gain"][1] >= 0.25
    assert first["base"][1] <= 0.0625 <= first["base"][2]
    assert [second[which][0] for which in ("base", "best", "last")] == [0.25, 0.75, 1.0]
    assert found["curves"]["x_pass1"]["steps"] == [0, 5, 10]
    assert found["curves"]["x_pass1"]["values"] == [0.0625, 0.75, 0.5]


def test_of_equal_steps_the_first_is_best() -> None:
    assert scores(run([judged(5, 2, 2), judged(10, 2, 2)]))["best_step"] == 5


def test_a_run_that_was_not_evaluated_at_its_start_has_no_gain() -> None:
    (metric, _) = scores(run([judged(5, 1, 1), judged(10, 2, 2)]))["metrics"]
    assert metric["base"] is None and metric["gain"] is None


def test_an_older_run_has_scores_without_intervals() -> None:
    """Without evaluations.jsonl the accuracies of metrics.jsonl are what there is."""
    beside = [{"step": 0, "eval_x_pass1": 0.25}, {"step": 5, "eval_x_pass1": 0.5, "eval_truncated_rate": 0.9}]
    found = scores(run([], beside))
    assert [metric["name"] for metric in found["metrics"]] == ["x_pass1"]
    assert found["metrics"][0]["last"] == [0.5, None, None] and found["metrics"][0]["base"] == [0.25, None, None]
    assert scores(run([])) == {}


def test_lines_of_another_form_are_counted() -> None:
    broken = run([judged(0, 1, 1), {"step": 5, "source": "x"}, judged(10, 2, 2) | {"correct": [3]}])
    assert scores(broken)["last_step"] == 0
    assert broken.notes == ["evaluations.jsonl: 2 line(s) of another form are left out"]
