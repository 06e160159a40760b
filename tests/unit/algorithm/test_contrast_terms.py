"""Demonstrations against own samples: weights by hand, u over two visits, gradients against DPO's by autograd."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from openrlhf_prefix.algorithm.contrast import Contrast, Groups, partition_weights
from openrlhf_prefix.algorithm.hybrid import HybridLoss, LossRows, StepCounts

# Two problems of two own samples and a demonstration, which stands last.
NOW = torch.tensor([[-4.0, -6.0, -5.0], [-3.0, -8.0, -2.0]])
BEFORE = torch.tensor([[-5.0, -5.5, -7.0], [-3.5, -7.0, -4.0]])
TOKENS = torch.tensor([[2, 3, 5], [4, 2, 2]])


def groups(**changed: torch.Tensor) -> Groups:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    given = {"now": NOW, "before": BEFORE, "tokens": TOKENS, "valid": ~nothing, "right": nothing, "equal": nothing}
    return Groups(**{**given, "demonstration": torch.tensor([[False, False, True]] * 2), **changed})


def coefficients(rule: str, rows: Groups, **settings: float) -> torch.Tensor:
    return Contrast(rule, **settings).coefficients(["a", "b"], rows)[0]


def test_one_sample_that_is_all_of_its_partition_has_weight_one() -> None:
    """k = 1 and gamma = 1: u is s, and the loss -L* + L_1, whatever the log-probs."""
    rows = groups(valid=torch.tensor([[True, False, True]] * 2))
    found = coefficients("partition", rows, gamma=1.0)
    assert found.tolist() == [[-0.5, 0.0, 0.5]] * 2  # a mean over two demonstrations


def test_every_weight_is_one_at_the_first_step() -> None:
    """tau 1 and the policy before the run: s = 0 = u."""
    contrast = Contrast("partition", gamma=0.85)
    found, metrics = contrast.coefficients(["a", "b"], groups(before=NOW))
    torch.testing.assert_close(found, torch.tensor([[-0.25, -0.25, 0.5]] * 2, dtype=torch.float64))
    assert metrics["contrast/weight"] == pytest.approx(1.0) and metrics["contrast/partition"] == pytest.approx(0.0)
    assert metrics["contrast/capped"] == 0.0 and metrics["contrast/demonstrations"] == 2.0


def test_the_partition_moves_as_worked_out_by_hand_over_two_visits() -> None:
    """Problem a, gamma 0.5, tau 2. First visit: s = -4/2 + 5 = 3 and -6/2 + 5.5 = 2.5; then one row of s = 1."""
    contrast = Contrast("partition", gamma=0.5, tau=2.0)
    first, _ = contrast.coefficients(["a", "b"], groups())
    z = 0.5 * 1 + 0.5 * (math.exp(3) + math.exp(2.5)) / 2
    assert contrast.u["a"] == pytest.approx(math.log(z))
    assert first[0].tolist() == pytest.approx([-math.exp(3) / z / 4, -math.exp(2.5) / z / 4, 0.5])
    rows = groups(now=torch.tensor([[-8.0, 0.0, -5.0], [0.0] * 3]), valid=torch.tensor([[1, 0, 1], [0, 0, 0]]).bool())
    second, _ = contrast.coefficients(["a", "b"], rows)
    again = 0.5 * z + 0.5 * math.exp(1)
    assert contrast.u["a"] == pytest.approx(math.log(again))
    assert second.tolist() == [[pytest.approx(-math.exp(1) / again), 0.0, 1.0], [0.0] * 3]


def test_without_a_reference_everything_is_a_mean_over_a_rows_own_tokens() -> None:
    """Problem b, tau 0.3, gamma 0.9: s = -3/4 / 0.3 = -2.5 and -8/2 / 0.3."""
    found = coefficients("partition_mean", groups(before=torch.full((2, 3), torch.nan)), tau=0.3, gamma=0.9)
    e = [math.exp(-2.5), math.exp(-4 / 0.3)]
    z = 0.1 + 0.9 * sum(e) / 2
    assert found[1].tolist() == pytest.approx([-e[0] / z / 2 / 4 / 2, -e[1] / z / 2 / 2 / 2, 0.5 / 2])


def test_a_partition_survives_what_would_overflow() -> None:
    weights, u, cut = partition_weights(torch.tensor([2000.0, -2000.0]), 0.0, 0.5, 100.0)
    assert u == pytest.approx(2000 + math.log(0.25)) and weights.tolist() == pytest.approx([4.0, 0.0])
    assert not cut.any()


def test_a_weight_above_the_cap_is_cut_and_counted() -> None:
    """Two samples, gamma 0.1: the likely one would have k / gamma = 20."""
    weights, _, cut = partition_weights(torch.tensor([50.0, 0.0]), 0.0, 0.1, 10.0)
    assert weights[0] == pytest.approx(10.0) and cut.tolist() == [True, False]
    rows = groups(now=torch.tensor([[50.0, 0.0, -1.0], [0.0] * 3]), before=torch.zeros(2, 3))
    _, metrics = Contrast("partition", gamma=0.1).coefficients(["a", "b"], rows)
    assert metrics["contrast/capped"] == 0.25


def test_the_order_of_problems_and_of_rows_does_not_matter() -> None:
    """Neither does the number of ranks: a rollout batch is weighed as a whole."""
    straight, turned = Contrast("partition", gamma=0.4), Contrast("partition", gamma=0.4)
    first, _ = straight.coefficients(["a", "b"], groups())
    rows = Groups(**{name: value.flip(0, 1) for name, value in vars(groups()).items()})
    second, _ = turned.coefficients(["b", "a"], rows)
    torch.testing.assert_close(second.flip(0, 1), first)
    assert straight.u == pytest.approx(turned.u)


def test_a_restored_partition_goes_on_as_if_nothing_had_been() -> None:
    through, before, after = (Contrast("partition", gamma=0.3) for _ in range(3))
    through.coefficients(["a", "b"], groups())
    before.coefficients(["a", "b"], groups())
    after.load_state_dict(before.state_dict())
    found = [one.coefficients(["b", "a"], groups(before=NOW))[0] for one in (through, after)]
    assert torch.equal(*found) and not torch.equal(found[0], coefficients("partition", groups(before=NOW), gamma=0.3))


def dpo(now: torch.Tensor, beta: float, held: torch.Tensor) -> torch.Tensor:
    """Its loss for (G, N) sums with a gradient: every own sample against its group's demonstration, the last row."""
    gained = now - BEFORE
    margins = gained[:, -1:] - gained[:, :-1] * held
    return -logsigmoid(beta * margins).mean()


@pytest.mark.parametrize("rule", ["pair", "pair_wrong"])
def test_the_gradient_of_a_pair_is_that_of_dpo(rule: str) -> None:
    right = torch.tensor([[True, False, False], [False, True, True]])
    held = torch.ones(2, 2) if rule == "pair" else (~right[:, :2]).float()
    leaf = NOW.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(dpo(leaf, 0.7, held), leaf)
    contrast = Contrast(rule, beta=0.7)
    found, metrics = contrast.coefficients(["a", "b"], groups(right=right))
    torch.testing.assert_close(-found.float(), wanted)
    assert metrics["contrast/loss"] == pytest.approx(dpo(NOW, 0.7, held).item())
    assert metrics["contrast/left_out"] == (0.0 if rule == "pair" else 0.5)
    if rule == "pair_wrong":
        assert found[0, 0] == found[1, 1] == 0.0  # a right sample has no gradient


def test_a_stage_begins_with_weights_of_one_half() -> None:
    """m = 0: log 2, and beta / 2 up and down."""
    found, metrics = Contrast("pair", beta=0.1).coefficients(["a", "b"], groups(before=NOW))
    assert metrics["contrast/loss"] == pytest.approx(math.log(2)) and metrics["contrast/margin"] == 0.0
    assert found.tolist() == [[pytest.approx(-0.0125), pytest.approx(-0.0125), pytest.approx(0.025)]] * 2


def test_swapped_roles_swap_the_signs_of_a_single_pair() -> None:
    """At m = 0; elsewhere the weights of m and -m add up to 1."""
    pair = torch.tensor([[True, False, True]] * 2)
    straight = coefficients("pair", groups(valid=pair))
    swapped = coefficients("pair", groups(valid=pair, demonstration=torch.tensor([[True, False, False]] * 2)))
    torch.testing.assert_close(straight[:, 2] + swapped[:, 0], torch.full((2,), 0.05, dtype=torch.float64))
    assert (straight[:, 0] == -straight[:, 2]).all() and (swapped[:, 2] == -swapped[:, 0]).all()


def test_a_gate_that_finds_every_sample_wrong_is_none() -> None:
    assert torch.equal(coefficients("pair_wrong", groups()), coefficients("pair", groups()))


def test_an_own_sample_that_is_the_demonstration_teaches_nothing_and_is_counted() -> None:
    equal = torch.tensor([[True, False, False], [False] * 3])
    found, metrics = Contrast("pair").coefficients(["a", "b"], groups(equal=equal))
    assert found[0, 0] == 0.0 and found[0, 2] == -found[0, 1] and metrics["contrast/equal"] == 0.25


@pytest.mark.parametrize("rule", ["partition", "pair"])
def test_groups_without_a_demonstration_are_left_out_of_the_mean(rule: str) -> None:
    """Of two groups one has none that counts: the other is the whole step."""
    valid = torch.tensor([[True] * 3, [True, True, False]])
    found, metrics = Contrast(rule).coefficients(["a", "b"], groups(valid=valid))
    alone = coefficients(rule, groups())[0] * 2
    torch.testing.assert_close(found, torch.stack([alone, torch.zeros(3, dtype=torch.float64)]))
    assert metrics["contrast/demonstrations"] == 1.0
    assert not coefficients(rule, groups(valid=torch.zeros(2, 3, dtype=torch.bool))).any()


def test_the_loss_is_minus_c_times_the_rows_log_probs_however_it_is_split() -> None:
    """Row 0 has two action tokens of three, row 1 three; no divisor is left to the learner."""
    action = torch.tensor([[False, True, True], [True] * 3])
    values = torch.tensor([[-torch.inf, -1.0, -2.0], [-0.5, -0.25, -4.0]])
    contrast = torch.tensor([[0.5], [-0.125]])

    def loss(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = values[part].clone().requires_grad_()
        nothing = torch.zeros_like(leaf)
        given = {"old_log_probs": leaf.detach(), "advantages": nothing, "action_mask": action[part]}
        rows = LossRows(leaf, **given, prefix_mask=nothing.bool(), contrast=contrast[part])
        total, _ = HybridLoss(divisor="constant", budget=7)(rows, StepCounts(rows=2.0, tokens=5.0, sampled=5.0))
        total.backward()
        return total.detach(), leaf.grad

    total, gradient = loss(slice(0, 2))
    assert total == pytest.approx(0.5 * 3 - 0.125 * 4.75)
    assert gradient.tolist() == [[0.0, -0.5, -0.5], [0.125] * 3]
    parts = [loss(slice(0, 1)), loss(slice(1, 2))]
    assert sum(part for part, _ in parts) == pytest.approx(total)
    assert torch.equal(torch.cat([part for _, part in parts]), gradient)


def test_a_row_trains_where_it_has_a_coefficient() -> None:
    action = torch.ones(2, 3, dtype=torch.bool)
    found = HybridLoss().learns_from(
        action, torch.zeros(2, 3).bool(), torch.zeros(2, 3), contrast=torch.tensor([[-0.1], [0.0]])
    )
    assert found.tolist() == [[True] * 3, [False] * 3]
