"""Which prefix tokens keep their advantage: the ceil(keep * n) most uncertain, however rows are laid out."""

import math
from fractions import Fraction

import pytest
import torch

from openrlhf_prefix.algorithm.selection import SCOPES, select_prefix_tokens


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def every(entropy: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(entropy, dtype=torch.bool)


def random_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(6, 12) distinct entropies and a random prefix mask."""
    generator = torch.Generator().manual_seed(seed)
    entropy = torch.randperm(72, generator=generator).float().reshape(6, 12)
    return entropy, torch.rand(6, 12, generator=generator) < 0.6


@pytest.mark.parametrize("keep", ["0.07", "0.1", "0.2", "0.25", "0.3", "0.5", "0.55", "0.9", "0.99"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 10, 15, 20, 99, 100, 300, 1000])
def test_exactly_the_ceiling_of_the_share_is_kept(keep: str, count: int) -> None:
    """The decimal share in exact fractions: 0.07 * 100 is 7, though 0.07 * 100 == 7.000000000000001 in floats."""
    entropy = torch.rand(1, count, generator=torch.Generator().manual_seed(count))
    expected = math.ceil(Fraction(keep) * count)
    for scope in SCOPES:
        assert select_prefix_tokens(entropy, every(entropy), float(keep), scope).sum() == expected


@pytest.mark.parametrize(
    ("keep", "count", "kept"), [(0.07, 100, 7), (0.2, 15, 3), (0.1, 3, 1), (0.2, 16, 4), (0.55, 100, 55)]
)
def test_counts_by_hand(keep: float, count: int, kept: int) -> None:
    """7; 3; 0.3 -> 1; 3.2 -> 4; 55 (0.55 * 100 == 55.00000000000001 in floats)."""
    entropy = torch.arange(count).float().unsqueeze(0)
    selected = select_prefix_tokens(entropy, every(entropy), keep)
    assert selected.nonzero()[:, 1].tolist() == list(range(count - kept, count))


def test_the_highest_entropies_are_kept_and_only_on_the_prefix() -> None:
    """Prefix tokens 0 to 4 hold 1 9 3 7 5: the 2 of ceil(0.4 * 5) are 9 and 7. Positions 5, 6 are continuation."""
    entropy, mask = row(1, 9, 3, 7, 5, 99, 98), row(1, 1, 1, 1, 1, 0, 0).bool()
    assert select_prefix_tokens(entropy, mask, 0.4).tolist() == [[False, True, False, True, False, False, False]]


def test_ties_go_to_the_earlier_row_and_then_the_earlier_token() -> None:
    """Six equal entropies, ceil(0.5 * 6) = 3 kept: both of row 0, the first of row 1. Token (0, 0) is no prefix."""
    mask = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 1, 1]]).bool()
    assert select_prefix_tokens(torch.full((3, 3), 0.7), mask, 0.5).tolist() == [
        [False, True, True],
        [True, False, False],
        [False, False, False],
    ]


@pytest.mark.parametrize("scope", SCOPES)
def test_many_ties_are_deterministic(scope: str) -> None:
    """A sort that is not stable shuffles long runs of equal keys; the first 250 of 1000 must be kept."""
    entropy = torch.zeros(1, 1000)
    assert select_prefix_tokens(entropy, every(entropy), 0.25, scope).nonzero()[:, 1].tolist() == list(range(250))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_share_of_zero_keeps_nothing_and_of_one_everything(scope: str) -> None:
    entropy, mask = random_batch(0)
    assert not select_prefix_tokens(entropy, mask, 0.0, scope).any()
    assert select_prefix_tokens(entropy, mask, 1.0, scope).equal(mask)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_batch_without_prefix_gives_an_empty_mask(scope: str) -> None:
    selected = select_prefix_tokens(torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.bool), 0.5, scope)
    assert selected.shape == (2, 3) and selected.dtype == torch.bool and not selected.any()


def test_the_batch_ranks_across_rows_and_the_sequence_within_them() -> None:
    """Row 0 is more uncertain than row 1 everywhere. Half of the batch is 4 tokens: all of row 0. Half of each row is
    2 tokens: the first two of both.
    """
    entropy = torch.tensor([[5.0, 4.0, 3.0, 2.0], [1.0, 0.9, 0.8, 0.7]])
    first_half = [True, True, False, False]
    assert select_prefix_tokens(entropy, every(entropy), 0.5, "batch").tolist() == [[True] * 4, [False] * 4]
    assert select_prefix_tokens(entropy, every(entropy), 0.5, "sequence").tolist() == [first_half, first_half]


def test_the_sequence_scope_counts_each_row_by_its_own_length() -> None:
    """Prefixes of 5, 1 and 0 tokens at keep 0.2 keep ceil(1.0) = 1, ceil(0.2) = 1 and 0; the batch ceil(1.2) = 2."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    entropy = torch.tensor([[1.0, 5.0, 4.0, 3.0, 2.0], [0.5, 9.0, 9.0, 9.0, 9.0], [9.0] * 5])
    assert select_prefix_tokens(entropy, mask, 0.2, "sequence").nonzero().tolist() == [[0, 1], [1, 0]]
    assert select_prefix_tokens(entropy, mask, 0.2, "batch").nonzero().tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_entropies_outside_the_prefix_never_matter(scope: str, poison: float) -> None:
    entropy, mask = random_batch(1)
    clean = select_prefix_tokens(entropy, mask, 0.3, scope)
    poisoned = torch.where(mask, entropy, torch.full_like(entropy, poison))
    assert select_prefix_tokens(poisoned, mask, 0.3, scope).equal(clean) and clean.any()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", range(5))
def test_rows_in_another_order_keep_the_same_tokens(scope: str, seed: int) -> None:
    entropy, mask = random_batch(seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed + 100))
    whole = select_prefix_tokens(entropy, mask, 0.3, scope)
    assert select_prefix_tokens(entropy[order], mask[order], 0.3, scope).equal(whole[order])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", range(5))
def test_padding_on_either_side_changes_nothing(scope: str, seed: int) -> None:
    entropy, mask = random_batch(seed)
    whole = select_prefix_tokens(entropy, mask, 0.3, scope)
    padded = torch.nn.functional.pad(entropy, (3, 2), value=1e9)
    selected = select_prefix_tokens(padded, torch.nn.functional.pad(mask, (3, 2)), 0.3, scope)
    assert selected[:, 3:-2].equal(whole) and selected.sum() == whole.sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_sequence_scope_does_not_see_how_rows_are_split(seed: int) -> None:
    entropy, mask = random_batch(seed)
    halves = zip(entropy.split(4), mask.split(4), strict=True)
    parts = [select_prefix_tokens(*half, 0.3, "sequence") for half in halves]
    assert torch.cat(parts).equal(select_prefix_tokens(entropy, mask, 0.3, "sequence"))


@pytest.mark.parametrize("seed", range(5))
def test_the_batch_scope_does_not_see_how_tokens_are_split_into_rows(seed: int) -> None:
    """All tokens in one row rank as in six rows."""
    entropy, mask = random_batch(seed)
    one_row = select_prefix_tokens(entropy.reshape(1, -1), mask.reshape(1, -1), 0.3, "sequence")
    assert select_prefix_tokens(entropy, mask, 0.3, "batch").equal(one_row.reshape(6, 12))


def test_half_precision_entropies_and_an_integer_mask_are_understood() -> None:
    selected = select_prefix_tokens(row(1, 3, 2).bfloat16(), row(1, 1, 1).long(), 0.5)
    assert selected.tolist() == [[False, True, True]]


@pytest.mark.parametrize("keep", [-0.1, 1.1, math.nan])
def test_a_share_outside_the_unit_interval_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match="a share lies in"):
        select_prefix_tokens(row(1.0), row(1).bool(), keep)


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of batch, sequence"):
        select_prefix_tokens(row(1.0), row(1).bool(), 0.5, "micro-batch")
