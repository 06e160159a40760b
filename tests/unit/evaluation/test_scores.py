"""What one evaluation says, as numbers and as a line."""

import pytest

from openrlhf_prefix.evaluation.scores import score_line, scores


def test_the_numbers_of_one_dataset() -> None:
    """Of 4 samples 0, 1 and 4 are correct: avg 5/12; pass@2 is 0, 1 - C(3, 2) / C(4, 2) = 1/2, 1: mean 1/2."""
    found = scores([0, 1, 4], 4, [1, 2])
    assert found["problems"] == 3 and found["correct"] == [0, 1, 4]
    assert found["avg"] == pytest.approx(5 / 12) == found["pass"]["1"] and found["pass"]["2"] == pytest.approx(0.5)
    assert found["interval"] == found["pass_interval"]["1"]
    low, high = found["pass_interval"]["2"]
    assert low == 0.0 and high == 1.0  # all three resampled alike: 1/27 > 2.5 % at either end


def test_a_line_has_every_number_with_its_interval() -> None:
    result = {
        "problems": 256,
        "avg": 0.927,
        "interval": (0.906, 0.946),
        "pass": {"4": 0.992},
        "pass_interval": {"4": (0.98, 1.0)},
    }
    assert score_line(result, 4) == "256 problems | avg@4 92.7% [90.6%, 94.6%] | pass@4 99.2% [98.0%, 100.0%]"
