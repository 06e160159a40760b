"""A reward that is learnt: the loss of a pair by hand, its gradient by autograd, the head's steps."""

import io
import math

import pytest
import torch

from openrlhf_prefix.algorithm.irl import RewardHead, compare, features, first_difference


def worked_out(star: torch.Tensor, own: torch.Tensor, first: int, weights: torch.Tensor) -> torch.Tensor:
    """The loss place by place, from rewards that are filled up with each text's last one."""
    rewards = [[weights @ x for x in text] for text in (star, own)]
    length = max(map(len, rewards))
    filled = [text + [text[-1]] * (length - len(text)) for text in rewards]
    losses = [torch.log1p(torch.exp(-(a - b))) for a, b in list(zip(*filled, strict=True))[first:]]
    return sum(losses) / len(losses)


def test_a_pair_of_different_lengths_by_hand() -> None:
    """w = (1, 2). From the second token on the demonstration has 2 and 3, the sample 2, which stands: margins 0, 1."""
    star = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    own = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    found = compare(star, own, 1, torch.tensor([1.0, 2.0]))
    s = 1 / (1 + math.e)
    assert found.loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2)
    assert found.gradient.tolist() == pytest.approx([-(0.5 * -2 + s * -1) / 2, -(0.5 * 1 + s * 1) / 2])
    assert found.margin.item() == pytest.approx(1.0)  # of the last tokens


def test_roles_that_swap_swap_the_margin() -> None:
    star, own = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    w = torch.tensor([0.5, -1.0])
    there, back = compare(star, own, 0, w), compare(own, star, 0, w)
    assert there.margin == -back.margin == -2.0
    nothing = torch.zeros(2)
    assert torch.equal(compare(star, own, 0, nothing).gradient, -compare(own, star, 0, nothing).gradient)


@pytest.mark.parametrize(
    ("stars", "owns", "first"), [(7, 7, 0), (9, 4, 3), (3, 8, 2), (5, 3, 3), (3, 6, 3), (1, 2, 1)]
)
def test_the_gradient_is_that_of_autograd(stars: int, owns: int, first: int) -> None:
    """The shorter text may end before the first difference: the one is the beginning of the other."""
    generator = torch.Generator().manual_seed(stars * 10 + owns)
    star, own = (torch.randn(size, 6, generator=generator, dtype=torch.float64) for size in (stars, owns))
    weights = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    wanted = worked_out(star, own, first, weights)
    (gradient,) = torch.autograd.grad(wanted, weights)
    found = compare(star, own, first, weights.detach())
    torch.testing.assert_close(found.loss, wanted.detach())
    torch.testing.assert_close(found.gradient, gradient)


def test_large_margins_overflow_nothing() -> None:
    """-log sigma(-2000) is 2000; the naive logarithm of a sigmoid would be infinite."""
    found = compare(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), 0, torch.tensor([1000.0]))
    assert found.loss == 2000.0 and found.gradient == 2.0


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([5, 6, 7], [5, 9, 7], 1), ([1], [2, 3], 0), ([5, 6, 7], [5, 6], 2), ([5], [5, 6], 1), ([5, 6], [5, 6], None)],
)
def test_where_two_texts_part(one: list[int], other: list[int], place: int | None) -> None:
    assert first_difference(one, other) == place


def test_features_have_length_one_whatever_the_precision() -> None:
    found = features(torch.tensor([[3.0, 4.0], [300.0, -400.0]], dtype=torch.bfloat16))
    assert found.dtype == torch.float32 and found.tolist()[0] == pytest.approx([0.6, 0.8], abs=1e-3)
    assert found.norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])


def test_a_step_of_size_one_never_makes_the_loss_larger() -> None:
    """50 steps on the same 4 pairs in 3 dimensions, where demonstrations and samples overlap."""
    generator = torch.Generator().manual_seed(3)
    pairs = [tuple(features(torch.randn(size, 3, generator=generator)) for size in (5, 3)) for _ in range(4)]
    head, losses = RewardHead(1.0), []
    for _ in range(50):
        weights = torch.zeros(3) if head.weights is None else head.weights
        found = [compare(star, own, 0, weights) for star, own in pairs]
        losses.append(sum(pair.loss.item() for pair in found) / 4)
        head.learn(torch.stack([pair.gradient for pair in found]))
    assert losses[0] == pytest.approx(math.log(2))
    assert all(after <= before + 1e-7 for before, after in zip(losses, losses[1:], strict=False))
    assert losses[-1] < losses[0] - 0.01


def test_the_step_is_by_the_mean_over_all_pairs() -> None:
    """From 0 by lr 0.5 and the mean (1, -1) of (3, 0) and (-1, -2); then by (2, 0)."""
    head = RewardHead(0.5)
    assert head.rewards(torch.ones(3, 2)).tolist() == [0.0] * 3  # before the first pair
    head.learn(torch.tensor([[3.0, 0.0], [-1.0, -2.0]]))
    assert head.weights.tolist() == [-0.5, 0.5]
    head.learn(torch.tensor([[2.0, 0.0]]))
    assert head.rewards(torch.tensor([[1.0, 0.0], [2.0, 4.0]])).tolist() == [-1.5, -1.0]


def test_a_restored_head_goes_on_to_the_bit() -> None:
    first, second = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    through, before, after = (RewardHead(0.3) for _ in range(3))
    through.learn(first)
    before.learn(first)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    for head in (through, after):
        head.learn(second)
    assert torch.equal(through.weights, after.weights)
    after.load_state_dict(RewardHead(0.3).state_dict())  # of a run that has seen no pair
    assert after.weights is None
