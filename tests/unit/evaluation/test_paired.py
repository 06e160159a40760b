"""The paired bootstrap against exact distributions, and its rows by hand."""

from itertools import product

import numpy as np
import pytest

from openrlhf_prefix.evaluation.paired import RESAMPLES, compare, resampled_means, table


def test_the_resampled_means_have_the_exact_distribution() -> None:
    """Four values: all 4^4 = 256 resamples are alike likely. The share at each mean is within 5 standard deviations
    of its exact chance p, sqrt(p (1 - p) / 20,000)."""
    values = np.array([-1.0, 0.0, 0.25, 2.0])
    exact = np.array([sum(drawn) / 4 for drawn in product(values, repeat=4)])
    found = resampled_means(values)
    assert len(found) == RESAMPLES == 20_000
    for mean in np.unique(exact):
        p = (exact == mean).mean()
        assert abs((found == mean).mean() - p) < 5 * (p * (1 - p) / RESAMPLES) ** 0.5


def test_resamples_are_seeded_and_do_not_depend_on_the_block(monkeypatch) -> None:
    values = np.linspace(0, 1, 7)
    whole = resampled_means(values, 1000, seed=3)
    monkeypatch.setattr("openrlhf_prefix.evaluation.paired.BLOCK", 50)
    assert (resampled_means(values, 1000, seed=3) == whole).all()
    assert (resampled_means(values, 1000, seed=4) != whole).any()


def test_a_row_by_hand() -> None:
    """Shares 0, 1/2, 1, 1/2 -> 1/2, 1/2, 1/2, 1: differences 1/2, 0, -1/2, 1/2; 4/8 -> 5/8."""
    base = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.5}
    now = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 1.0}
    (row,) = compare({"t": now}, {"t": base})
    assert (row.base, row.now, row.gain) == (0.5, 0.625, 0.125)
    assert (row.wins, row.ties, row.losses, row.problems) == (2, 1, 1, 4)
    drawn = [sum(found) / 4 for found in product([0.5, 0.0, -0.5, 0.5], repeat=4)]
    at_most = sum(value <= 0 for value in drawn) / 256
    assert row.p == pytest.approx(2 * at_most, abs=0.02)
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-9)


def test_pairing_matters() -> None:
    """A gain of 0.1 on every problem: without the pairs it would drown in the spread of the problems."""
    base = {str(index): 0.9 * (index % 2) for index in range(40)}
    (row,) = compare({"t": {name: share + 0.1 for name, share in base.items()}}, {"t": base})
    assert row.low == pytest.approx(0.1) == row.high and row.p == 0.0


def test_equal_evaluations_have_p_one() -> None:
    (row,) = compare({"t": {"a": 0.5, "b": 0.25}}, {"t": {"a": 0.5, "b": 0.25}})
    assert (row.gain, row.low, row.high, row.p, row.ties) == (0, 0, 0, 1, 2)


def test_other_problems_are_refused() -> None:
    for base in ({"t": {"a": 0.5}}, {"t": {"a": 0.5, "c": 0.5}}, {"u": {"a": 0.5, "b": 0.5}}):
        with pytest.raises(ValueError, match="the problems differ"):
            compare({"t": {"a": 0.5, "b": 0.5}}, base)


def test_a_column_is_the_mean_of_its_benchmarks_whatever_their_sizes() -> None:
    """ARC-c +1 on 1 problem, GPQA 0 on 2, MMLU-Pro -1/2 on 4: (1 + 0 - 1/2) / 3 = 1/6, while pooled it is -1/7."""
    base = {"arc_c": {"a": 0.0}, "gpqa": {"a": 1.0, "b": 0.0}, "mmlu_pro": dict.fromkeys("abcd", 1.0)}
    now = {"arc_c": {"a": 1.0}, "gpqa": {"a": 1.0, "b": 0.0}, "mmlu_pro": dict.fromkeys("abcd", 0.5)}
    *_, column = compare(now, base)
    assert column.name == "mean of three" and column.gain == pytest.approx(1 / 6) == column.low
    assert (column.wins, column.ties, column.losses) == (1, 2, 4)
    assert (column.base, column.now) == (pytest.approx((0 + 0.5 + 1) / 3), pytest.approx((1 + 0.5 + 0.5) / 3))


def test_benchmarks_are_drawn_independently() -> None:
    """100 values +-1: their mean has the deviation 0.1, and the mean of three such means 0.1 / sqrt(3). One index for
    all three would leave it at 0.1."""
    spread = {str(index): 1.0 - 2 * (index % 2) for index in range(100)}
    names = ("arc_c", "gpqa", "mmlu_pro")
    *_, column = compare(dict.fromkeys(names, spread), dict.fromkeys(names, dict.fromkeys(spread, 0.0)))
    assert column.high == pytest.approx(1.96 * 0.1 / 3**0.5, rel=0.06)
    assert column.low == pytest.approx(-column.high, rel=0.06)


def test_the_table_has_a_line_a_row() -> None:
    text = table(compare({"t": {"a": 1.0, "b": 0.0}}, {"t": {"a": 0.0, "b": 0.0}}))
    assert len(text.splitlines()) == 2 and "+50.0% [ +0.0%, +100.0%]" in text
