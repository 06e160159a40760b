"""Intervals by hand: Student's t where it has a closed form, the bootstrap where the resamples can be counted."""

import math
from statistics import NormalDist

import pytest

from openrlhf_prefix.evaluation.intervals import bootstrap_interval, mean_interval, standard_error, student_t


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_t_with_one_degree_is_cauchys_and_with_two_is_algebraic(confidence: float) -> None:
    """Cumulative p = (1 + confidence) / 2. One degree: tan(pi (p - 1/2)). Two: (2 p - 1) / sqrt(2 p (1 - p))."""
    p = (1 + confidence) / 2
    assert student_t(confidence, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
    assert student_t(confidence, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)


def test_t_falls_towards_the_normal_distribution() -> None:
    """4.303 at 2 degrees, 2.776 at 4, 2.262 at 9, as in every table; for many, z + (z^3 + z) / (4 degrees)."""
    values = [student_t(0.95, degrees) for degrees in (2, 4, 9, 1000)]
    z = NormalDist().inv_cdf(0.975)
    assert values[:3] == pytest.approx([4.3027, 2.7764, 2.2622], abs=5e-5)
    assert values[3] == pytest.approx(z + (z**3 + z) / 4000, abs=1e-5)


@pytest.mark.parametrize(("confidence", "degrees"), [(0.95, 0), (1.0, 3), (0.0, 3)])
def test_an_impossible_t_is_refused(confidence: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_t(confidence, degrees)


def test_the_interval_over_three_seeds() -> None:
    """0.5, 0.6, 0.7: s = 0.1 with n - 1 in its divisor, t = 4.3027 with 2 degrees, 4.3027 * 0.1 / sqrt(3) = 0.2484."""
    mean, half = mean_interval([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6) and half == pytest.approx(0.2484, abs=1e-4)


def test_two_seeds_have_a_wide_interval_and_one_has_none() -> None:
    """0.5 and 0.7: s = 0.1 sqrt(2), so that s / sqrt(2) = 0.1 and half the width is t itself, 12.706 * 0.1."""
    assert mean_interval([0.5, 0.7])[1] == pytest.approx(1.2706, abs=1e-4)
    assert mean_interval([0.5]) == (0.5, None)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_the_bootstrap_of_two_problems_is_counted() -> None:
    """Means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 95 % reaches from 0 to 1, the middle 40 % is 1/2."""
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)


def test_the_bootstrap_of_a_hundred_problems_is_the_binomials() -> None:
    """Half of 100 solved: a resample solves Binomial(100, 1/2), whose 2.5 % and 97.5 % quantiles are 40 and 60."""
    low, high = bootstrap_interval([0.0] * 50 + [1.0] * 50)
    assert low == pytest.approx(0.40, abs=0.0101) and high == pytest.approx(0.60, abs=0.0101)


def test_the_bootstrap_is_seeded_and_knows_equal_and_single_problems() -> None:
    values = [0.1, 0.4, 0.35, 0.9, 0.0]
    assert bootstrap_interval(values) == bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25) and bootstrap_interval([0.3]) == (0.3, 0.3)
    with pytest.raises(ValueError, match="no problems"):
        bootstrap_interval([])


def test_the_standard_error_of_a_mean() -> None:
    """0, 1: s = sqrt(1/2), error 1/2. 1, 2, 3, 4: s^2 = 5/3, error sqrt(5/12). A single value has none."""
    assert standard_error([0, 1]) == pytest.approx(0.5)
    assert standard_error([1, 2, 3, 4]) == pytest.approx((5 / 12) ** 0.5)
    assert standard_error([0.3]) is None
