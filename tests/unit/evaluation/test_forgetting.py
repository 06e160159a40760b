"""FM and AvgAcc of tables worked out by hand."""

import pytest

from openrlhf_prefix.evaluation.forgetting import forgetting


def test_two_tasks_of_which_the_second_was_learned_last() -> None:
    """P = [[80, 10], [70, 60]]: FM = 70 - 80 = -10, AvgAcc = 65."""
    found = forgetting([{"a": 0.8, "b": 0.1}, {"a": 0.7, "b": 0.6}], learned=["b"])
    assert found.forgetting == pytest.approx(-0.1) and found.average == pytest.approx(0.65)
    assert (found.tasks["a"].best, found.tasks["a"].now) == (0.8, 0.7)


def test_without_a_learned_task_all_count() -> None:
    """(-10 + 0) / 2: the best of b is the score now."""
    found = forgetting([{"a": 0.8, "b": 0.1}, {"a": 0.7, "b": 0.6}])
    assert found.forgetting == pytest.approx(-0.05) and found.tasks["b"].lost == 0


def test_the_best_is_of_all_evaluations_not_of_the_first_or_last() -> None:
    """a: 50, 80, 60: lost 20 from the middle one. Three tasks, c learned: FM = (-20 + -5) / 2."""
    history = [{"a": 0.5, "b": 0.3, "c": 0.0}, {"a": 0.8, "b": 0.2, "c": 0.1}, {"a": 0.6, "b": 0.25, "c": 0.9}]
    found = forgetting(history, learned=["c"])
    assert found.forgetting == pytest.approx(-0.125) and found.average == pytest.approx(1.75 / 3)
    assert "a                 60.0%  80.0% -20.0%" in found.text() and "FM -12.5%" in found.text()


def test_where_all_was_learned_nothing_was_forgotten() -> None:
    assert forgetting([{"a": 0.5}], learned=["a"]).forgetting is None
    assert forgetting([{"a": 0.5}]).forgetting == 0


def test_tasks_that_an_evaluation_lacks_are_named() -> None:
    with pytest.raises(ValueError, match="not every evaluation has b"):
        forgetting([{"a": 0.5}, {"a": 0.5, "b": 0.5}])
    with pytest.raises(ValueError, match="nothing was evaluated"):
        forgetting([])
    assert forgetting([{"a": 0.5, "b": 0.1}, {"a": 0.5}]).tasks.keys() == {"a"}
