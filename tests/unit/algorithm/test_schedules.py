"""The window of prefix ratios, derived from low(t) = end + (start - end) (1 + cos(pi t / T)) / 2."""

import math
from itertools import pairwise

import pytest

from openrlhf_prefix.algorithm.schedules import SHAPES, PrefixSchedule


def low(step: int, **fields: object) -> float:
    return PrefixSchedule(**fields).window(step)[0]


@pytest.mark.parametrize(("step", "expected"), [(0, 0.95), (250, 0.50), (500, 0.05)])
def test_the_papers_cosine_falls_from_095_over_a_half_to_005(step: int, expected: float) -> None:
    """cos(0) = 1, cos(pi/2) = 0, cos(pi) = -1: 0.05 + 0.90 * {1, 1/2, 0}. The defaults are the paper's."""
    assert low(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(125, 0.8181980515), (375, 0.1818019485)])
def test_the_quarters_of_the_cosine_lie_above_and_below_the_straight_line(step: int, expected: float) -> None:
    """cos(pi/4) = sqrt(2)/2 = 0.7071067812: 0.05 + 0.45 * 1.7071067812 = 0.8181980515, mirrored at 3T/4:
    0.05 + 0.45 * 0.2928932188 = 0.1818019485. The line would give 0.725 and 0.275.
    """
    assert low(step) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.9), (5, 0.7), (10, 0.5), (15, 0.3), (20, 0.1)])
def test_the_linear_shape_falls_by_the_same_amount_every_step(step: int, expected: float) -> None:
    """0.9 -> 0.1 in 20 steps is 0.04 a step."""
    assert low(step, shape="linear", low_start=0.9, low_end=0.1, total_steps=20) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", [0, 1, 10, 1000])
def test_the_constant_shape_stays_at_its_start(step: int) -> None:
    assert low(step, shape="constant", low_start=0.3, low_end=0.1, total_steps=10) == 0.3


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("step", [8, 9, 1000, 10**9])
def test_the_lower_bound_stays_where_it_arrived(shape: str, step: int) -> None:
    """A cosine that was not clamped would come up again: at 2T it would be back at low_start."""
    assert low(step, shape=shape, low_start=0.8, low_end=0.2, total_steps=8) == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_lower_bound_moves_one_way_only(shape: str) -> None:
    down = [low(step, shape=shape, low_start=0.9, low_end=0.1, total_steps=30) for step in range(31)]
    up = [low(step, shape=shape, low_start=0.1, low_end=0.9, total_steps=30) for step in range(31)]
    assert all(after < before for before, after in pairwise(down))
    assert up == pytest.approx(down[::-1], abs=1e-12)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_upper_bound_is_fixed(shape: str) -> None:
    schedule = PrefixSchedule(low_start=0.6, low_end=0.1, high=0.7, shape=shape, total_steps=4)
    assert [schedule.window(step)[1] for step in (0, 2, 4, 9)] == [0.7] * 4


def test_a_schedule_of_one_step_has_arrived_at_step_one() -> None:
    assert [low(step, total_steps=1) for step in (0, 1, 2)] == pytest.approx([0.95, 0.05, 0.05])


def test_the_ends_of_the_unit_interval_are_ratios() -> None:
    assert PrefixSchedule(low_start=1.0, low_end=0.0, high=1.0, total_steps=2).window(1) == pytest.approx((0.5, 1.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low_start": -0.01}, "low_start is -0.01"),
        ({"low_end": -1.0}, "low_end is -1.0"),
        ({"high": 1.01}, "high is 1.01"),
        ({"low_start": 1.5, "high": 1.0}, "low_start is 1.5"),
        ({"high": math.nan}, "high is nan"),
        ({"low_start": 0.6, "high": 0.5}, "low_start = 0.6 is above prefix.high = 0.5"),
        ({"low_start": 0.1, "low_end": 0.6, "high": 0.5}, "low_end = 0.6 is above prefix.high = 0.5"),
        ({"shape": "exponential"}, "choose one of constant, linear, cosine"),
        ({"total_steps": 0}, "total_steps is 0"),
        ({"total_steps": -3}, "total_steps is -3"),
    ],
)
def test_a_schedule_without_meaning_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrefixSchedule(**fields)


def test_steps_before_the_first_are_refused() -> None:
    with pytest.raises(ValueError, match="step is -1"):
        PrefixSchedule().window(-1)
