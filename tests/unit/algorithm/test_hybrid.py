"""The three terms of the loss by hand, and what must not matter: the split into micro-batches, padding, infinities."""

import math
from dataclasses import replace

import pytest
import torch

from openrlhf_prefix.algorithm.hybrid import Correction, HybridLoss, LossRows, StepCounts
from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY
from openrlhf_prefix.algorithm.losses import DIVISORS

# Row 0: prefix token, two sampled. Row 1: one sampled, two padding. Ratios are 1: the policy loss is -advantage.
ACTION = torch.tensor([[True, True, True], [True, False, False]])
PREFIX = torch.tensor([[True, False, False], [False, False, False]])
ADVANTAGES = torch.tensor([[4.0, 1.0, 1.0], [-2.0, 9.0, 9.0]])
KL = torch.tensor([[10.0, 1.0, 2.0], [5.0, 70.0, 70.0]])
ENTROPY = torch.tensor([[20.0, 3.0, 1.0], [2.0, 80.0, 80.0]])
COUNTS = StepCounts(rows=2.0, tokens=4.0, sampled=3.0)


def rows(**changed: torch.Tensor) -> LossRows:
    zeros = torch.zeros(2, 3)
    return replace(LossRows(zeros, zeros, ADVANTAGES, ACTION, PREFIX, kl=KL, entropy=ENTROPY), **changed)


@pytest.mark.parametrize(
    ("divisor", "policy", "kl", "entropy"),
    [
        # policy: -(4 + 1 + 1 - 2) = -4 over 4 tokens; kl: (1 + 2 + 5) over 3 sampled; entropy: (3 + 1 + 2) / 3
        ("token-mean", -1.0, 8 / 3, 2.0),
        # rows: -(6 / 3) and 2, over 2; kl 3 / 2 and 5, over 2; entropy 4 / 2 and 2, over 2
        ("seq-mean", 0.0, 3.25, 2.0),
        # over 2 rows x budget 5
        ("constant", -0.4, 0.8, 0.6),
    ],
)
def test_every_term_has_its_own_tokens_and_the_counts_of_the_step(divisor, policy, kl, entropy) -> None:
    loss = HybridLoss(divisor=divisor, budget=5, entropy_coef=0.01)
    value, _ = loss(rows(), COUNTS, kl_coef=0.1)
    assert value.item() == pytest.approx(policy + 0.1 * kl - 0.01 * entropy)
    half, _ = loss(rows(), StepCounts(4.0, 8.0, 6.0), kl_coef=0.1)  # as one half of a step twice as large
    assert half.item() == pytest.approx(value.item() / 2)


@pytest.mark.parametrize(("switch", "expected"), [("kl_on_prefix", 18 / 4), ("entropy_on_prefix", -26 / 4)])
def test_a_switch_brings_prefix_tokens_into_a_term_and_into_its_count(switch: str, expected: float) -> None:
    """KL (10 + 1 + 2 + 5) / 4, or entropy (20 + 3 + 1 + 2) / 4, where the other term is 8 / 3 or 6 / 3."""
    loss = HybridLoss(divisor="token-mean", entropy_coef=1.0, **{switch: True})
    value, _ = loss(rows(advantages=torch.zeros(2, 3)), COUNTS, kl_coef=1.0)
    assert value.item() == pytest.approx(expected + (8 / 3 if switch == "entropy_on_prefix" else -2.0))


@pytest.mark.parametrize("divisor", DIVISORS)
def test_no_token_of_a_term_is_a_differentiable_zero(divisor: str) -> None:
    """A micro-batch that is all prefix, one that is blank, and a step without anything: zeros, not NaN."""
    loss = HybridLoss(divisor=divisor, budget=5, entropy_coef=1.0)
    nothing = torch.zeros_like(ACTION)
    for action, counts in [(PREFIX, COUNTS), (nothing, COUNTS), (nothing, StepCounts(0, 0, 0))]:
        leaf = torch.zeros(2, 3, requires_grad=True)
        batch = rows(log_probs=leaf, kl=leaf * 3, entropy=leaf * 5, action_mask=action, advantages=torch.zeros(2, 3))
        value, sums = loss(batch, counts, kl_coef=1.0)
        value.backward()
        assert value.item() == 0.0 and leaf.grad.eq(0).all()
        assert all(math.isfinite(part) for pair in sums.values() for part in pair)


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
def test_what_stands_in_masked_places_reaches_neither_loss_nor_gradient(poison: float) -> None:
    """Padding everywhere, and prefix tokens in the tensors that are none of theirs: 0 * inf would be NaN."""
    loss = HybridLoss("ppo", "token-mean", entropy_coef=0.5, correction=Correction("token", "mask", "ratio", 0.5, 2.0))
    sampled = ACTION & ~PREFIX

    def poisoned(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask, values, torch.full_like(values, poison))

    gradients = []
    for spoil in (False, True):
        leaf = torch.full((2, 3), -0.3, requires_grad=True)
        old, rollout = torch.full((2, 3), -0.2), torch.full((2, 3), -0.4)
        batch = rows(
            log_probs=poisoned(leaf, ACTION) if spoil else leaf,
            old_log_probs=poisoned(old, ACTION) if spoil else old,
            advantages=poisoned(ADVANTAGES, ACTION) if spoil else ADVANTAGES,
            rollout_log_probs=poisoned(rollout, sampled) if spoil else rollout,
            kl=poisoned(leaf * 2, sampled) if spoil else leaf * 2,
            entropy=poisoned(leaf * 3, sampled) if spoil else leaf * 3,
        )
        value, _ = loss(batch, COUNTS, kl_coef=0.1)
        value.backward()
        gradients.append(leaf.grad)
        assert value.isfinite()
    torch.testing.assert_close(*gradients)
    assert gradients[0][ACTION].ne(0).all()


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("sizes", [[1] * 6, [2, 4], [5, 1]])
def test_micro_batches_add_up_to_the_whole_step(divisor: str, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(3)
    action = torch.arange(9) < torch.tensor([9, 1, 4, 7, 2, 8]).unsqueeze(1)
    prefix = torch.arange(9) < torch.tensor([0, 0, 3, 6, 0, 7]).unsqueeze(1)
    draws = [torch.randn(6, 9, generator=generator) for _ in range(6)]
    log_probs, old, rollout = (0.3 * draw for draw in draws[:3])
    of_rows = torch.rand(6, 1, generator=generator)
    sampled = action & ~prefix
    teacher = torch.where(draws[0] > -0.5, draws[2], torch.nan)
    others = (rollout, draws[4], draws[5].abs(), of_rows, draws[1], teacher, of_rows - 0.5)
    whole = LossRows(log_probs, old, draws[3], action, prefix, *others)
    taught = float((sampled & ~teacher.isnan()).sum())
    counts = StepCounts(6.0, float(action.sum()), float(sampled.sum()), taught=taught)
    loss = HybridLoss("ppo", divisor, 9, entropy_coef=0.1, correction=Correction("seq", "mask", "ratio", 0.7, 1.4))
    parts = zip(*(getattr(whole, name).split(sizes) for name in vars(whole)), strict=True)
    value = sum(loss(LossRows(*part), counts, 0.2, teacher_coef=0.7)[0] for part in parts)
    assert value.item() == pytest.approx(loss(whole, counts, 0.2, teacher_coef=0.7)[0].item(), abs=1e-6)


@pytest.mark.parametrize("imitation", [POLICY, *IMITATION])
@pytest.mark.parametrize("changed", [{}, {"sampled": "likelihood"}, {"imitation_mean": "tokens"}])
def test_the_tokens_that_train_are_those_with_a_gradient(imitation, changed) -> None:
    """By autograd, on rows that are on-policy: no token is clipped, so that every advantage counts."""
    generator = torch.Generator().manual_seed(4)
    action = torch.arange(9) < torch.tensor([9, 1, 4, 7, 2, 8]).unsqueeze(1)
    prefix = torch.arange(9) < torch.tensor([0, 0, 3, 7, 0, 9]).unsqueeze(1)
    draws = torch.randn(3, 6, 9, generator=generator)
    advantages, leaf = draws[0] * (draws[1] > 0.3), (-draws[2].abs()).requires_grad_()
    beside = {"row_entropy": torch.zeros(6, 1), "reference": leaf.detach() - 0.5}
    batch = LossRows(leaf, leaf.detach(), advantages, action, prefix, **beside)
    loss = HybridLoss(divisor="token-mean", imitation=imitation, **changed)
    loss(batch, StepCounts(6.0, 31.0, 13.0))[0].backward()
    assert torch.equal(loss.learns_from(action, prefix, advantages), leaf.grad != 0)


def test_rows_that_left_the_step_stay_in_its_divisors_and_out_of_the_mean_of_its_loss() -> None:
    """Of 4 rows one trains: its loss is -1 / 4, and that is the loss of the step."""
    one = {name: value[:1] for name, value in vars(rows(kl=None, entropy=None)).items() if value is not None}
    one["advantages"] = torch.tensor([[0.0, 3.0, 2.0]])
    value, sums = HybridLoss(budget=5)(LossRows(**one), StepCounts(4.0, 12.0, 9.0, trained=1.0))
    assert value.item() == pytest.approx(-5 / (4 * 5))
    assert [part.item() for part in sums["policy_loss"]] == pytest.approx([-0.25, 1.0])


def test_the_loss_of_a_step_with_nothing_to_train_is_0() -> None:
    nothing = rows(kl=None, entropy=None, action_mask=torch.zeros_like(ACTION))
    value, sums = HybridLoss(budget=5)(nothing, StepCounts(4.0, 12.0, 9.0, trained=0.0))
    assert value.item() == 0.0 and [part.item() for part in sums["policy_loss"]] == [0.0, 1.0]


def test_the_sums_of_a_step_with_nothing_to_train_lie_where_its_rows_do() -> None:
    """A device other than the default one, without data."""
    elsewhere = {name: tensor.to("meta") for name, tensor in vars(rows()).items() if tensor is not None}
    _, sums = HybridLoss(budget=5)(LossRows(**elsewhere), StepCounts(4.0, 12.0, 9.0, trained=0.0))
    assert {part.device.type for pair in sums.values() for part in pair} == {"meta"}


def test_the_correction_does_not_see_prefix_tokens() -> None:
    """Sampled tokens have weight exp(0.1 - 0) each; the prefix token keeps weight 1 whatever the engine is said to
    have given it, and a row's mean ratio is that of its sampled tokens."""
    for level, weight in (("token", math.exp(0.1)), ("seq", math.exp(0.1))):
        loss = HybridLoss("ppo", "token-mean", correction=Correction(level, "mask", "ratio", 0.9, 1.2))
        old = torch.full((2, 3), 0.1)
        for engine in (0.0, -9.0):
            rollout = torch.where(PREFIX, torch.full((2, 3), engine), torch.zeros(2, 3))
            batch = rows(log_probs=old, old_log_probs=old, rollout_log_probs=rollout, kl=None)
            value, sums = loss(batch, COUNTS)
            assert value.item() == pytest.approx((-4.0 - weight * (1 + 1 - 2)) / 4)
            assert sums["is_filter_ratio"][0] == 0 and sums["vllm_kl"][0].item() == pytest.approx(-0.3)


def test_metrics_are_over_sampled_tokens_and_clipping_of_prefixes_is_counted_by_itself() -> None:
    """Ratios e^0.5 everywhere: positive advantages are clipped. Sampled: 2 of 3; trained prefix tokens: 1 of 1."""
    _, sums = HybridLoss(divisor="token-mean")(rows(log_probs=torch.full((2, 3), 0.5)), COUNTS)
    means = {name: float(numerator / denominator) for name, (numerator, denominator) in sums.items()}
    assert means["ppo_clip_ratio"] == pytest.approx(2 / 3)
    assert means["prefix/clip"] == 1.0
    assert means["ppo_kl"] == pytest.approx(-0.5)
    assert means["kl"] == pytest.approx(8 / 3)
    unclipped = HybridLoss(divisor="token-mean", clip_prefix=False)(rows(log_probs=torch.full((2, 3), 0.5)), COUNTS)[1]
    assert unclipped["prefix/clip"][0] == 0


@pytest.mark.parametrize("divisor", DIVISORS)
def test_the_prefix_part_and_the_rest_make_the_whole_policy_loss(divisor: str) -> None:
    loss = HybridLoss(divisor=divisor, budget=5)
    batch = rows(log_probs=torch.full((2, 3), 0.1), kl=None)
    rest = replace(batch, advantages=torch.where(PREFIX, torch.zeros(2, 3), ADVANTAGES))
    whole = loss(batch, COUNTS)[0]
    assert (loss.prefix_part(batch, COUNTS) + loss(rest, COUNTS)[0]).item() == pytest.approx(whole.item(), abs=1e-6)
    assert loss.prefix_part(batch, COUNTS).item() < 0


def test_gspo_takes_the_ratio_of_rows() -> None:
    """Row 0 has log-ratios 0.3, 0, 0, mean 0.1; row 1 has 0.2 alone. Nothing is clipped, advantages are 1."""
    log_probs = torch.tensor([[0.3, 0.0, 0.0], [0.2, 5.0, 5.0]])
    batch = rows(log_probs=log_probs, advantages=torch.ones(2, 3), prefix_mask=PREFIX & False, kl=None)
    value, _ = HybridLoss("gspo", "seq-mean", clip_low=1.0, clip_high=1.0)(batch, COUNTS)
    assert value.item() == pytest.approx(-(math.exp(0.1) + math.exp(0.2)) / 2)
