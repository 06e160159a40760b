"""How long a common beginning is, and which problems keep their demonstrations."""

import pytest

from openrlhf_prefix.data.cuts import common_length, keeps_demonstrations


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [([1, 2, 3], [1, 2, 4, 5], 2), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([7], [1], 0), ([1, 9, 3], [1, 2, 3], 1)],
)
def test_the_common_beginning_ends_at_the_first_difference(first: list, second: list, shared: int) -> None:
    assert common_length(first, second) == common_length(second, first) == shared


def test_shares_are_nested_and_depend_on_seed_and_id_alone() -> None:
    problems = [f"p{index}" for index in range(2000)]
    kept = {share: {p for p in problems if keeps_demonstrations(7, p, share)} for share in (0.01, 0.1, 1.0)}
    assert kept[0.01] < kept[0.1] < kept[1.0] == set(problems)
    assert abs(len(kept[0.1]) - 200) < 41  # 3 standard deviations of a binomial: 3 * sqrt(2000 * 0.1 * 0.9) = 40.2
    assert kept[0.1] != {p for p in problems if keeps_demonstrations(8, p, 0.1)}
