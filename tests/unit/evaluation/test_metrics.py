"""avg@n and pass@k by hand, and against the definition: the share of all subsets of k with a correct sample."""

from itertools import combinations

import pytest

from openrlhf_prefix.evaluation.metrics import average_at_n, pass_at_k


def test_avg_at_n_is_the_mean_share_of_correct_samples() -> None:
    """(1/4 + 3/4 + 0/4) / 3 = 1/3."""
    assert average_at_n([1, 3, 0], 4) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)])
def test_pass_at_k_of_one_correct_sample_in_four(k: int, expected: float) -> None:
    """1 - C(3, k) / C(4, k) = 1 - 3/4, 1 - 3/6, 1 - 1/4, 1 - 0/1."""
    assert pass_at_k([1], 4, k) == pytest.approx(expected)


def test_pass_at_k_is_a_mean_over_problems() -> None:
    """n = 4, k = 2, c = 1, 2, 0: (1 - 3/6 + 1 - 1/6 + 0) / 3 = 4/9. Pooled counts would give another number."""
    assert pass_at_k([1, 2, 0], 4, 2) == pytest.approx(4 / 9)


@pytest.mark.parametrize("samples", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(samples: int) -> None:
    for correct in range(samples + 1):
        for k in range(1, samples + 1):
            subsets = list(combinations([True] * correct + [False] * (samples - correct), k))
            assert pass_at_k([correct], samples, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_one_is_avg_at_n() -> None:
    assert pass_at_k([0, 2, 5, 3], 5, 1) == pytest.approx(average_at_n([0, 2, 5, 3], 5))


def test_pass_at_n_is_the_share_of_problems_solved_at_all() -> None:
    assert pass_at_k([0, 1, 8, 0], 8, 8) == 0.5


def test_large_counts_stay_exact() -> None:
    """C(2048, 1024) has 615 digits: 1 - C(2047, 1024) / C(2048, 1024) = 1 - 1024/2048."""
    assert pass_at_k([1], 2048, 1024) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [0, 5, -1])
def test_k_must_fit_the_samples(k: int) -> None:
    with pytest.raises(ValueError, match="1 <= k <= 4"):
        pass_at_k([1], 4, k)


def test_no_problems_and_impossible_counts_are_refused() -> None:
    for metric in (lambda counts: average_at_n(counts, 4), lambda counts: pass_at_k(counts, 4, 1)):
        with pytest.raises(ValueError, match="no problems"):
            metric([])
        for counts in ([1, 5], [-1]):
            with pytest.raises(ValueError, match="between 0 and 4"):
                metric(counts)
