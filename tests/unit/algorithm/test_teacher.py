"""The teacher's term: its gradient is that of -KL, by enumeration; clamp, clip, divisor and rows by hand."""

import math

import pytest
import torch

from openrlhf_prefix.algorithm.hybrid import Correction, HybridLoss, LossRows, StepCounts
from openrlhf_prefix.algorithm.teacher import taught_rows, teacher_advantages

NAN = math.nan
# Row 0: a prefix token, two taught ones, the last token of the answer. Row 1: not taught, two paddings.
ACTION = torch.tensor([[True] * 4, [True, True, False, False]])
PREFIX = torch.tensor([[True, False, False, False], [False] * 4])
TEACHER = torch.tensor([[-0.5, -1.0, -3.0, NAN], [NAN] * 4])
OLD = torch.full((2, 4), -1.5)
COUNTS = StepCounts(rows=2.0, tokens=6.0, sampled=5.0, taught=2.0)


def rows(log_probs: torch.Tensor, **changed: torch.Tensor) -> LossRows:
    given = {"old_log_probs": OLD, "advantages": torch.zeros(2, 4), "action_mask": ACTION, "prefix_mask": PREFIX}
    return LossRows(log_probs, **{**given, "teacher": TEACHER, **changed})


def gradient(
    loss: HybridLoss, counts: StepCounts = COUNTS, coef: float = 1.0, **changed: torch.Tensor
) -> torch.Tensor:
    leaf = OLD.clone().requires_grad_()
    loss(rows(leaf, **changed), counts, teacher_coef=coef)[0].backward()
    return leaf.grad


def test_its_gradient_is_that_of_the_reverse_kl_by_enumeration() -> None:
    """One state, a vocabulary of 5: every token once, weighted by its probability, against autograd of the KL."""
    generator = torch.Generator().manual_seed(2)
    policy = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    of_teacher = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(-1)
    log_probs = policy.log_softmax(-1)
    probabilities = log_probs.detach().exp()
    total = torch.zeros((), dtype=torch.float64)
    for token in range(5):
        here = log_probs[token].view(1, 1)
        one = LossRows(
            log_probs=here,
            old_log_probs=here.detach(),
            advantages=torch.zeros(1, 1, dtype=torch.float64),
            action_mask=torch.ones(1, 1, dtype=torch.bool),
            prefix_mask=torch.zeros(1, 1, dtype=torch.bool),
            teacher=of_teacher[token].view(1, 1),
        )
        total = total + probabilities[token] * HybridLoss()(one, StepCounts(1, 1, 1, taught=1.0), teacher_coef=1.0)[0]
    (found,) = torch.autograd.grad(total, policy)
    other = policy.detach().clone().requires_grad_()
    kl = (other.softmax(-1) * (other.log_softmax(-1) - of_teacher)).sum()
    (wanted,) = torch.autograd.grad(kl, other)
    torch.testing.assert_close(found, wanted)
    assert wanted.abs().max() > 0.1


def test_taught_tokens_move_by_d_over_their_own_number_whatever_the_divisor_of_the_policy() -> None:
    """d is 0.5 and -1.5, the loss -d r / 2, its gradient at r = 1 likewise; nothing on the prefix token, the last
    token, or the row that is not taught."""
    for divisor in ("token-mean", "seq-mean", "constant"):
        found = gradient(HybridLoss(divisor=divisor, budget=7), coef=0.1)
        assert found.flatten().tolist() == pytest.approx([0.0, -0.025, 0.075, 0.0] + [0.0] * 4)
    half = gradient(HybridLoss(), StepCounts(4.0, 12.0, 10.0, taught=4.0), coef=0.1)  # as one half of a step
    assert half[0, 1].item() == pytest.approx(-0.0125)


def test_a_clamp_bounds_d_and_is_counted() -> None:
    assert gradient(HybridLoss(teacher_clamp=1.0))[0, 1:3].tolist() == pytest.approx([-0.25, 0.5])
    _, sums = HybridLoss(teacher_clamp=1.0)(rows(OLD), COUNTS, teacher_coef=1.0)
    means = {name: float(top / bottom) for name, (top, bottom) in sums.items() if name.startswith("teacher/")}
    assert means["teacher/clamped"] == 0.5
    assert means["teacher/kl"] == pytest.approx((-0.5 + 1.5) / 2)  # of all of d
    d, outside = teacher_advantages(TEACHER[:, 1:3], OLD[:, 1:3], 1.0)
    assert d[0].tolist() == [0.5, -1.0] and outside[0].tolist() == [False, True]


def test_ratios_are_clipped_like_the_policys() -> None:
    """A ratio of e^0.5: where d is 0.5 the gradient is cut, where it is -1.5 it is not."""
    leaf = (OLD + 0.5).requires_grad_()
    HybridLoss()(rows(leaf), COUNTS, teacher_coef=1.0)[0].backward()
    assert leaf.grad[0, 1:3].tolist() == pytest.approx([0.0, 0.75 * math.exp(0.5)])


def test_the_correction_of_the_engines_probabilities_weighs_it_too() -> None:
    """The engine gave the first token e^-0.2 of its probability, and the second far too little: that is left out."""
    band = Correction("token", "mask", "ratio", 0.5, 2.0)
    engine = torch.where(torch.tensor([False, True, False, False]), OLD - 0.2, OLD - 3.0)
    found = gradient(HybridLoss(correction=band), rollout_log_probs=engine)
    assert found[0, 1:3].tolist() == pytest.approx([-0.25 * math.exp(0.2), 0.0])


def test_the_advantage_of_a_taught_row_stays_beside_it() -> None:
    """KDRL: A + b d, with one divisor for both where every sampled token is taught."""
    every = torch.full((2, 4), -1.0)
    advantages = torch.where(PREFIX, 0.0, 2.0)
    counts = StepCounts(2.0, 5.0, 5.0, taught=5.0)
    found = gradient(HybridLoss(divisor="token-mean"), counts, 0.2, teacher=every, advantages=advantages)
    assert found[ACTION & ~PREFIX].tolist() == pytest.approx([-(2.0 + 0.2 * 0.5) / 5] * 5)


def test_rows_with_a_taught_token_train() -> None:
    loss = HybridLoss()
    found = loss.learns_from(ACTION, PREFIX, torch.zeros(2, 4), TEACHER)
    assert torch.equal(found, gradient(loss) != 0)
    assert not loss.learns_from(ACTION, PREFIX, torch.zeros(2, 4)).any()


def test_a_micro_batch_without_a_taught_token_adds_a_differentiable_zero() -> None:
    found = gradient(HybridLoss(), teacher=torch.full((2, 4), NAN))
    assert found.eq(0).all()


@pytest.mark.parametrize(
    ("on", "gate", "expected"),
    [
        ("all", 0, [[True, True, False], [True, True, True]]),
        ("wrong", 0, [[False, True, False], [True, True, True]]),
        ("failed", 0, [[False, False, False], [True, True, True]]),
        ("failed", 1, [[True, True, False], [True, True, True]]),
    ],
)
def test_the_rows_that_a_teacher_acts_on(on: str, gate: int, expected: list[list[bool]]) -> None:
    """A group with a right row, a wrong one and one whose reward failed, and one without a right row."""
    rewards = torch.tensor([[1.0, 0.0, 1.0], [0.0, -0.5, 0.0]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    assert taught_rows(rewards, valid, on, gate).tolist() == expected


def test_an_unknown_choice_of_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="choose one of all, wrong, failed"):
        taught_rows(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "some")
