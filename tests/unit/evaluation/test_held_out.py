"""Held-out scores where rewards failed, and what a gain between two evaluations is worth."""

import pytest

from openrlhf_prefix.evaluation.held_out import Tally, accuracies, gains, read, tally

PROBLEMS = [("a-0", "a"), ("b-0", "b"), ("a-1", "a")]


def test_a_failed_sample_is_neither_right_nor_wrong() -> None:
    """Of a-0 two samples are left, one right: 1/2; a-1 is right 3 of 4 times: the mean is 5/8, not (1 + 3) / 8.
    a-0 has no pass@4 any more, so pass@4 is that of a-1 alone."""
    found = tally(PROBLEMS, [[1.0, None, 0.0, None], [0.0] * 4, [1.0, 0.0, 1.0, 1.0]])
    assert found == [Tally("a", ("a-0", "a-1"), (1, 3), (2, 4)), Tally("b", ("b-0",), (0,), (4,))]
    assert accuracies(found, 4) == {"eval_a_pass1": 0.625, "eval_a_pass4": 1.0, "eval_b_pass1": 0.0, "eval_b_pass4": 0}


def test_an_outage_leaves_no_score_that_could_pass_for_one() -> None:
    found = tally(PROBLEMS, [[None, None], [1.0, 0.0], [None, None]])
    assert accuracies(found, 2) == {"eval_b_pass1": 0.5, "eval_b_pass2": 1.0}


def test_one_sample_has_one_score() -> None:
    assert accuracies(tally([("a-0", "a")], [[1.0]]), 1) == {"eval_a_pass1": 1.0}


def test_rows_of_the_file_are_read_back() -> None:
    found = tally(PROBLEMS, [[1.0, None], [0.0, 0.0], [1.0, 1.0]])
    assert read([one.row(step) for step in (0, 5) for one in found]) == {0: found, 5: found}


def test_a_gain_is_paired() -> None:
    """Every problem gains 1/4 though they start far apart: the differences have no spread, so neither has the gain.
    Unpaired, the interval would be as wide as the spread of the scores."""
    ids = tuple(map(str, range(20)))
    before = [Tally("a", ids, tuple(n % 4 for n in range(20)), (4,) * 20)]
    after = [Tally("a", ids, tuple(n % 4 + 1 for n in range(20)), (4,) * 20)]
    assert gains(before, after, 4)["eval_a_pass1"] == (0.25, 0.25, 0.25)


def test_a_gain_that_chance_makes_has_zero_in_its_interval() -> None:
    """Half of the problems gain 1, half lose 1, and one more gains: the mean is 1/21."""
    ids = tuple(map(str, range(21)))
    before = [Tally("a", ids, tuple(n % 2 for n in range(21)), (1,) * 21)]
    after = [Tally("a", ids, tuple(1 - n % 2 for n in range(21)), (1,) * 21)]
    gain, low, high = gains(before, after, 1)["eval_a_pass1"]
    assert gain == pytest.approx(1 / 21) and low < 0 < high


def test_a_gain_is_over_the_problems_that_have_both_scores() -> None:
    """a-0 went from 0 to 1; a-1 has no score before, and a source that is new has no gain."""
    before = tally([("a-0", "a"), ("a-1", "a")], [[0.0], [None]])
    after = tally([("a-0", "a"), ("a-1", "a"), ("c-0", "c")], [[1.0], [0.0], [1.0]])
    assert gains(before, after, 1) == {"eval_a_pass1": (1.0, 1.0, 1.0)}
