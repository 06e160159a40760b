"""The surrogate on both sides of its clip range, and the three divisors, by hand."""

import math

import pytest
import torch

from openrlhf_prefix.algorithm.losses import DIVISORS, clipped_tokens, policy_loss_per_token, reduce_loss


def loss(ratio: float, advantage: float, prefix: bool = False, **options: object) -> float:
    """Loss of one token at `ratio` with clip range [0.8, 1.3] (unequal, so that a swap of the two shows)."""
    return loss_and_gradient(ratio, advantage, prefix, **options)[0]


def loss_and_gradient(ratio: float, advantage: float, prefix: bool = False, **options: object) -> tuple[float, float]:
    old = torch.tensor([[-1.5]])
    log_probs = (old + math.log(ratio)).requires_grad_()
    options = {"clip_low": 0.2, "clip_high": 0.3, **options}
    value = policy_loss_per_token(log_probs, old, torch.tensor([[advantage]]), torch.tensor([[prefix]]), **options)
    value.sum().backward()
    return value.item(), log_probs.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 2.0, -2.6),  # min(3.0, 1.3 * 2)
        (0.5, 2.0, -1.0),  # min(1.0, 0.8 * 2)
        (1.5, -2.0, 3.0),  # min(-3.0, 1.3 * -2 = -2.6)
        (0.5, -2.0, 1.6),  # min(-1.0, 0.8 * -2 = -1.6)
        (1.1, 2.0, -2.2),  # inside
        (0.9, -2.0, 1.8),  # inside
        (1.0, 0.7, -0.7),
        (5.0, 0.0, 0.0),
    ],
)
def test_the_clipped_surrogate_by_hand(ratio: float, advantage: float, expected: float) -> None:
    assert loss(ratio, advantage) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (5.0, -2.0, 6.0),  # unclipped 10, at most 3 * 2
        (2.0, -2.0, 4.0),  # below the cap
        (0.5, -2.0, 1.6),  # the ordinary clip still holds
        (5.0, 2.0, -2.6),  # positive advantages have no second clip
    ],
)
def test_the_dual_clip_caps_the_loss_of_negative_advantages(ratio: float, advantage: float, expected: float) -> None:
    assert loss(ratio, advantage, dual_clip=3.0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dual_clip", [None, 3.0])
@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"), [(1.5, 2.0, -3.0), (0.5, -2.0, 1.0), (5.0, -2.0, 10.0), (0.5, 2.0, -1.0)]
)
def test_an_unclipped_prefix_token_has_minus_ratio_times_advantage(
    ratio: float, advantage: float, expected: float, dual_clip: float | None
) -> None:
    assert loss(ratio, advantage, True, clip_prefix=False, dual_clip=dual_clip) == pytest.approx(expected, abs=1e-5)


def test_clip_prefix_reaches_prefix_tokens_only() -> None:
    """Ratio 1.5, advantage 2 on both tokens: the prefix -3.0, the continuation -2.4 (default clip 0.2)."""
    old, advantages, prefix = torch.zeros(1, 2), torch.full((1, 2), 2.0), torch.tensor([[True, False]])
    log_probs = torch.full((1, 2), math.log(1.5))
    free = policy_loss_per_token(log_probs, old, advantages, prefix, clip_prefix=False)
    clipped = policy_loss_per_token(log_probs, old, advantages, prefix)
    assert free[0].tolist() == pytest.approx([-3.0, -2.4], abs=1e-5)
    assert clipped[0].tolist() == pytest.approx([-2.4, -2.4], abs=1e-5)


@pytest.mark.parametrize("advantage", [2.0, -0.75, 0.0])
@pytest.mark.parametrize("options", [{}, {"dual_clip": 3.0}, {"clip_prefix": False}])
@pytest.mark.parametrize("prefix", [False, True])
def test_on_policy_the_gradient_is_minus_the_advantage(advantage: float, options: dict, prefix: bool) -> None:
    """d(-r A)/d log p = -r A = -A at r = 1."""
    assert loss_and_gradient(1.0, advantage, prefix, **options)[1] == pytest.approx(-advantage, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 2.0, 0.0),  # cut above
        (0.5, -2.0, 0.0),  # cut below
        (0.5, 2.0, -1.0),  # the way back is open: -r A
        (1.5, -2.0, 3.0),
    ],
)
def test_the_clipped_side_has_no_gradient_and_the_way_back_has_one(
    ratio: float, advantage: float, expected: float
) -> None:
    assert loss_and_gradient(ratio, advantage)[1] == pytest.approx(expected, abs=1e-5)


def test_beyond_the_dual_clip_there_is_no_gradient() -> None:
    assert loss_and_gradient(5.0, -2.0, dual_clip=3.0)[1] == 0.0
    assert loss_and_gradient(2.0, -2.0, dual_clip=3.0)[1] == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize("log_ratio", [1000.0, -1000.0, 88.0, math.inf, -math.inf])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("clip_prefix", [True, False])
def test_a_huge_log_ratio_stays_finite_and_so_does_its_gradient(
    log_ratio: float, advantage: float, clip_prefix: bool
) -> None:
    """exp(88.8) overflows fp32, and inf * 0 in the backward pass is nan."""
    log_probs = torch.tensor([[log_ratio]], requires_grad=True)
    prefix, advantages = torch.tensor([[True]]), torch.tensor([[advantage]])
    value = policy_loss_per_token(log_probs, torch.zeros(1, 1), advantages, prefix, clip_prefix=clip_prefix)
    value.sum().backward()
    assert value.isfinite().all() and log_probs.grad.isfinite().all()


def test_gradient_flows_through_the_new_log_probs_only() -> None:
    new, old, advantages = (torch.full((1, 2), value, requires_grad=value < 0) for value in (-1.0, -1.1, 2.0))
    policy_loss_per_token(new, old.detach(), advantages, torch.zeros(1, 2)).sum().backward()
    assert new.grad is not None and old.grad is None


def test_clipped_tokens_are_those_whose_gradient_is_cut() -> None:
    """Ratios 1.5 1.25 0.5 0.9 with A = 1, -1, 0 against [0.8, 1.3]: the first with A > 0, the third with A < 0."""
    log_probs = torch.tensor([[1.5, 1.25, 0.5, 0.9]]).log().repeat(3, 1)
    advantages = torch.tensor([[1.0], [-1.0], [0.0]]).expand(3, 4)
    assert clipped_tokens(log_probs, torch.zeros(3, 4), advantages, 0.2, 0.3).tolist() == [
        [True, False, False, False],
        [False, False, True, False],
        [False, False, False, False],
    ]


PER_TOKEN = torch.tensor([[1.0, 2.0, 30.0], [4.0, 50.0, 60.0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("divisor", "expected"),
    [
        ("token-mean", 7 / 3),  # (1 + 2 + 4) / 3 tokens
        ("seq-mean", 2.75),  # ((1 + 2) / 2 + 4) / 2 rows
        ("constant", 0.35),  # 7 / (2 rows * 10)
    ],
)
def test_the_divisors_by_hand(divisor: str, expected: float) -> None:
    """Tokens 1 2 | 4 count; 30, 50 and 60 stand in masked slots."""
    value = reduce_loss(PER_TOKEN, MASK, divisor, num_tokens=3, num_rows=2, budget=10)
    assert value.dim() == 0 and value.item() == pytest.approx(expected)
    assert reduce_loss(PER_TOKEN, MASK.bool(), divisor, 3, 2, 10).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("divisor", "expected"), [("token-mean", 7 / 30), ("seq-mean", 5.5 / 8), ("constant", 7 / 80)]
)
def test_the_counts_are_those_of_the_whole_step(divisor: str, expected: float) -> None:
    """The same micro-batch as a part of a step with 30 tokens in 8 rows; the budget 10 belongs to the constant."""
    assert reduce_loss(PER_TOKEN, MASK, divisor, 30, 8, 10).item() == pytest.approx(expected)


def ragged(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(8, 9) losses of rows with 0 to 9 action tokens."""
    lengths = torch.tensor([9, 1, 4, 7, 2, 0, 8, 3])
    return torch.randn(8, 9, generator=torch.Generator().manual_seed(seed)), torch.arange(9) < lengths.unsqueeze(1)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("sizes", [[1] * 8, [2] * 4, [3, 5], [7, 1]])
def test_micro_batches_of_uneven_rows_add_up_to_the_whole_batch(divisor: str, sizes: list[int]) -> None:
    """A divisor taken over the micro-batch would weigh the short rows' tokens more, or the small part's rows."""
    per_token, mask = ragged()
    counts = {"num_tokens": int(mask.sum()), "num_rows": 8, "budget": 9}
    whole = reduce_loss(per_token, mask, divisor, **counts)
    parts = [
        reduce_loss(values, kept, divisor, **counts)
        for values, kept in zip(per_token.split(sizes), mask.split(sizes), strict=True)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-6) and abs(whole) > 1e-3


@pytest.mark.parametrize("divisor", DIVISORS)
def test_extra_padding_changes_nothing(divisor: str) -> None:
    per_token, mask = ragged(2)
    wide, wide_mask = torch.nn.functional.pad(per_token, (0, 5), value=7.0), torch.nn.functional.pad(mask, (0, 5))
    counts = {"num_tokens": 34, "num_rows": 8, "budget": 9}
    short, long = reduce_loss(per_token, mask, divisor, **counts), reduce_loss(wide, wide_mask, divisor, **counts)
    assert long.item() == pytest.approx(short.item(), abs=1e-6)


@pytest.mark.parametrize("divisor", DIVISORS)
def test_a_micro_batch_without_action_tokens_gives_a_differentiable_zero(divisor: str) -> None:
    per_token = torch.ones(2, 3, requires_grad=True)
    value = reduce_loss(per_token, torch.zeros(2, 3), divisor, num_tokens=12, num_rows=4, budget=8)
    value.backward()
    assert value.item() == 0.0 and per_token.grad.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_masked_slot_poisons_neither_the_loss_nor_its_gradient(divisor: str, poison: float) -> None:
    """nan * 0 is nan: masking by multiplication fails here. The gradients are the reciprocal divisors."""
    per_token = torch.tensor([[1.0, 2.0, poison], [4.0, poison, poison]], requires_grad=True)
    value = reduce_loss(per_token, MASK, divisor, 3, 2, 10)
    value.backward()
    first, second = {"token-mean": (1 / 3, 1 / 3), "seq-mean": (1 / 4, 1 / 2), "constant": (1 / 20, 1 / 20)}[divisor]
    assert value.isfinite()
    assert per_token.grad[0].tolist() == pytest.approx([first, first, 0.0])
    assert per_token.grad[1].tolist() == pytest.approx([second, 0.0, 0.0])


def test_counts_may_be_tensors() -> None:
    value = reduce_loss(PER_TOKEN, MASK, "token-mean", torch.tensor(3.0), torch.tensor(2.0), 10)
    assert value.item() == pytest.approx(7 / 3)


def test_an_unknown_divisor_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of token-mean, seq-mean, constant"):
        reduce_loss(PER_TOKEN, MASK, "sum", 3, 2, 10)
