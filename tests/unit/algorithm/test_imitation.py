"""c_t of every method by its definition, by finite differences, and where methods collapse into one another."""

import math
from dataclasses import replace

import pytest
import torch

from openrlhf_prefix.algorithm import imitation
from openrlhf_prefix.algorithm.hybrid import HybridLoss, LossRows, StepCounts
from openrlhf_prefix.algorithm.imitation import (
    GAMMA,
    IMITATION,
    POLICY,
    Imitation,
    Tokens,
    needs_advantage,
    needs_reference,
    watched,
)

P = torch.tensor([[0.9, 0.5, 0.1, 0.04, 0.001]], dtype=torch.float64)
A = torch.tensor([[1.0, -0.5, 2.0, 0.75, 1.0]], dtype=torch.float64)
H = torch.tensor([[math.log(2)]], dtype=torch.float64)  # e^-H = 1/2


@pytest.mark.parametrize(
    ("name", "coefficient"),
    [
        ("nll", torch.ones_like(P)),
        ("dft", P),
        ("phi", P * (1 - P)),
        ("trust", torch.tensor([[1.0, 1.0, 1.0, 0.4, 0.01]], dtype=torch.float64)),  # min(1, p / 0.1)
        ("luffy", A * GAMMA * P / (P + GAMMA) ** 2),
        ("srft", 0.5 * 0.5 + A * GAMMA * P / (P + GAMMA) ** 2),
    ],
)
def test_the_gradient_is_the_coefficient_of_the_definition(name: str, coefficient: torch.Tensor) -> None:
    log_probs = P.log().requires_grad_()
    IMITATION[name](Tokens(log_probs, A, H)).sum().backward()
    torch.testing.assert_close(-log_probs.grad, coefficient)


@pytest.mark.parametrize("name", [name for name, row in IMITATION.items() if row.objective])
def test_what_a_validation_watches_has_the_gradient_of_the_loss(name: str) -> None:
    """Its own slope is -c, where the loss holds c fixed; the same by a central difference of its value."""
    log_probs = P.log().requires_grad_()
    watched(name, log_probs).sum().backward()
    of_watched, log_probs.grad = log_probs.grad, None
    IMITATION[name](Tokens(log_probs, A, H)).sum().backward()
    torch.testing.assert_close(of_watched, log_probs.grad)
    up, down = (watched(name, log_probs.detach() + sign * 1e-6) for sign in (1, -1))
    torch.testing.assert_close(of_watched, (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_validation_of_dft_rises_with_the_policy_and_its_loss_does_not_know() -> None:
    """p from 0.5 to 0.01 is worse: -p rises by 0.49, while the loss -sg(p) log p falls from 0.35 to 0.05."""
    good, bad = (torch.tensor([[p]]).log() for p in (0.5, 0.01))
    assert (watched("dft", bad) - watched("dft", good)).item() == pytest.approx(0.49)
    losses = [IMITATION["dft"](Tokens(one, torch.ones(1, 1), H)).item() for one in (good, bad)]
    assert losses == pytest.approx([0.5 * math.log(2), 0.01 * math.log(100)]) and losses[1] < losses[0]
    assert watched("srft", bad).item() == pytest.approx(math.log(100))  # that has none: -log p


# The functions whose slopes the rows f_... take, from the literature of inverse reinforcement learning.
PHI = {
    "f_tv": lambda r: r,
    "f_pearson": lambda r: r - r**2 / 4,
    "f_hellinger": lambda r: r / (1 + r),
    "f_js": lambda r: (2 - (-r).exp()).log(),
    "f_kl": lambda r: -(-r).exp(),
}
NOW = torch.tensor([[-0.2, -1.0, -3.0, -2.5, -1.5]], dtype=torch.float64)


def coefficients(name: str, r: torch.Tensor, beta: float = 0.5) -> torch.Tensor:
    """c of demonstration tokens whose log p / p_ref is r / beta."""
    log_probs = NOW[:, : r.shape[-1]].clone().requires_grad_()
    reference = log_probs.detach() - r / beta
    IMITATION[name](Tokens(log_probs, A, H, reference, beta)).sum().backward()
    return -log_probs.grad


@pytest.mark.parametrize("name", PHI)
def test_a_divergence_weighs_by_the_slope_of_its_function(name: str) -> None:
    """phi'(r) by central differences, where nothing is clamped: c = 1 at r = 0, whatever the function."""
    r = torch.tensor([[-0.5, -0.1, 0.0, 0.3, 1.9]], dtype=torch.float64)
    slope = (PHI[name](r + 1e-6) - PHI[name](r - 1e-6)) / 2e-6
    torch.testing.assert_close(coefficients(name, r), slope, rtol=1e-6, atol=1e-8)
    assert coefficients(name, r)[0, 2] == 1.0
    torch.testing.assert_close(coefficients(name, r, beta=0.1), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "bound", "least"),
    [("f_pearson", 2.0, 0.0), ("f_hellinger", -0.9, 100.0), ("f_js", -0.6, 1 / (2 * math.exp(-0.6) - 1))]
    + [("f_kl", -math.log(10), 10.0)],
)
def test_a_weight_stays_at_its_bound(name: str, bound: float, least: float) -> None:
    """Pearson's is 0 from r = 2 on; the others stop to grow where a token has fallen far."""
    further = bound + math.copysign(3.0, bound)
    found = coefficients(name, torch.tensor([[bound, further]], dtype=torch.float64))[0].tolist()
    assert found == pytest.approx([least, least])


@pytest.mark.parametrize("name", PHI)
def test_a_policy_that_has_not_moved_has_the_gradient_of_sft(name: str) -> None:
    torch.testing.assert_close(coefficients(name, torch.zeros_like(NOW)), torch.ones_like(NOW), rtol=0, atol=0)


def test_total_variation_is_sft_bit_for_bit() -> None:
    """Loss and gradient, in fp32, however far the policy is from the reference."""
    found = []
    for name in ("nll", "f_tv"):
        log_probs = torch.log_softmax(torch.randn(3, 50, generator=torch.Generator().manual_seed(1)), -1)
        log_probs.requires_grad_()
        loss = IMITATION[name](Tokens(log_probs, A, H, log_probs.detach() - 4)).sum()
        loss.backward()
        found.append((loss.item(), log_probs.grad))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
    assert not needs_reference("f_tv") and needs_reference("f_kl")


def test_a_divergence_without_a_reference_is_an_error_and_padding_is_no_token_of_it() -> None:
    loss = HybridLoss(imitation="f_kl", imitation_mean="tokens")
    with pytest.raises(ValueError, match="reference's log-probs"):
        loss(rows(), COUNTS)
    reference = torch.where(PREFIX, LOGP - 2 * math.log(2), torch.tensor(-math.inf))  # r = log 2, c = 1 / 2
    value, _ = loss(rows(reference=reference, advantages=torch.zeros(2, 3)), COUNTS)
    assert value.item() == pytest.approx(math.log(2))


def test_luffy_is_strongest_at_gamma_and_weak_at_certainty() -> None:
    """A g p / (p + g)^2 at p = g is A / 4; at p = 1 it is 0.1 / 1.21."""
    log_probs = torch.tensor([[GAMMA, 1.0]], dtype=torch.float64).log().requires_grad_()
    IMITATION["luffy"](Tokens(log_probs, torch.ones(1, 2, dtype=torch.float64), H)).sum().backward()
    assert (-log_probs.grad[0]).tolist() == pytest.approx([0.25, 0.1 / 1.21])


def test_dft_is_the_expected_accuracy_by_finite_differences() -> None:
    """Its gradient in the logits is that of -p: a central difference of -softmax(z)[k]."""
    logits = torch.tensor([0.3, -1.2, 0.9, 0.0], dtype=torch.float64, requires_grad=True)
    IMITATION["dft"](Tokens(logits.log_softmax(-1)[2:3], torch.ones(1), H)).sum().backward()
    for index in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[index] = 1e-6
        up, down = ((logits.detach() + sign * step).softmax(-1)[2] for sign in (1, -1))
        assert logits.grad[index].item() == pytest.approx(-(up - down).item() / 2e-6, abs=1e-8)


# Row 0 is a whole demonstration of 3 tokens, row 1 sampled, 2 tokens and padding.
ACTION = torch.tensor([[True, True, True], [True, True, False]])
PREFIX = torch.tensor([[True, True, True], [False, False, False]])
LOGP = torch.tensor([[0.5, 0.25, 0.125], [0.5, 0.5, 1.0]]).log()
COUNTS = StepCounts(rows=2.0, tokens=5.0, sampled=2.0)


def rows(**changed: torch.Tensor) -> LossRows:
    advantages = torch.tensor([[1.0, 1.0, 1.0], [0.5, 0.5, 9.0]])
    return replace(
        LossRows(LOGP, LOGP, advantages, ACTION, PREFIX, row_entropy=torch.tensor([[0.7], [0.2]])), **changed
    )


def test_sft_is_the_masked_negative_log_likelihood() -> None:
    """-(log 1/2 + log 1/4 + log 1/8) / 3 = 2 log 2, the sampled row aside."""
    loss = HybridLoss(divisor="constant", budget=7, imitation="nll", imitation_mean="tokens")
    value, sums = loss(rows(advantages=torch.zeros(2, 3)), COUNTS)
    assert value.item() == pytest.approx(2 * math.log(2))
    assert sums["imitation_loss"][0].item() == pytest.approx(2 * math.log(2)) and sums["policy_loss"][0] == 0


def test_the_policy_term_leaves_the_demonstration_alone_and_the_weights_are_applied() -> None:
    """Policy: -(0.5 + 0.5) / (2 x 4) = -0.125; imitation 2 log 2. Sum, and convex with 0.3."""
    loss = HybridLoss(divisor="constant", budget=4, imitation="nll", imitation_mean="tokens")
    assert loss(rows(), COUNTS)[0].item() == pytest.approx(-0.125 + 2 * math.log(2))
    assert loss(rows(), COUNTS, imitation_coef=0.5)[0].item() == pytest.approx(-0.125 + math.log(2))
    convex = replace(loss, convex=True)
    assert convex(rows(), COUNTS, imitation_coef=0.3)[0].item() == pytest.approx(0.7 * -0.125 + 0.6 * math.log(2))


def test_token_means_of_two_terms_have_a_divisor_each_or_one_for_both() -> None:
    """UFT: the policy's mean over 2 sampled tokens, -0.5 however long the hint is, beside the hint's over its 3. With
    one divisor, -1 / 5 and 6 log 2 / 5."""
    loss = HybridLoss(divisor="token-mean", imitation="nll", imitation_mean="tokens")
    assert loss(rows(), COUNTS)[0].item() == pytest.approx(-0.5 + 2 * math.log(2))
    assert replace(loss, imitation_mean="policy")(rows(), COUNTS)[0].item() == pytest.approx((6 * math.log(2) - 1) / 5)


def test_a_likelihood_weight_knows_no_ratio() -> None:
    """SRFT weights grad log p with -1 and 0.1 e^H also after the policy has moved: p was 0.3, is 0.6."""
    now, old, weights = (torch.tensor([[value] * 2]) for value in (0.6, 0.3, 0.0))
    weights[0, 0], weights[0, 1] = -1.0, 0.25
    log_probs = now.log().requires_grad_()
    plain = LossRows(log_probs, old.log(), weights, torch.ones(1, 2) > 0, torch.zeros(1, 2) > 0)
    low, high = 1.0, math.inf  # no clip
    for sampled, ratio in (("likelihood", 1.0), ("advantage", 2.0)):
        log_probs.grad = None
        loss = HybridLoss(divisor="token-mean", clip_low=low, clip_high=high, sampled=sampled)
        loss(plain, StepCounts(1.0, 2.0, 2.0))[0].backward()
        assert (-2 * log_probs.grad[0]).tolist() == pytest.approx([-ratio, 0.25 * ratio])


def test_chord_at_0_is_reinforcement_and_at_1_supervised() -> None:
    loss = HybridLoss(divisor="constant", budget=4, imitation="nll", imitation_mean="tokens", convex=True)
    alone = rows(advantages=torch.where(PREFIX, torch.zeros(2, 3), rows().advantages))
    plain = HybridLoss(divisor="constant", budget=4)(alone, COUNTS)[0]
    assert loss(rows(), COUNTS, imitation_coef=0.0)[0].item() == pytest.approx(plain.item())
    assert loss(rows(), COUNTS, imitation_coef=1.0)[0].item() == pytest.approx(2 * math.log(2))


def test_luffy_with_g_towards_infinity_is_the_policy_gradient_scaled_down(monkeypatch) -> None:
    """g A g p / (p + g)^2 -> A p: the surrogate of a behaviour that is certain of its token."""
    monkeypatch.setattr(imitation, "GAMMA", 1e6)
    log_probs = P.log().requires_grad_()
    (1e6 * IMITATION["luffy"](Tokens(log_probs, A, H))).sum().backward()
    torch.testing.assert_close(-log_probs.grad, A * P, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", list(IMITATION))
@pytest.mark.parametrize("mean", ["policy", "tokens"])
def test_micro_batches_add_up_also_without_a_demonstration_token(name: str, mean: str) -> None:
    loss = HybridLoss(divisor="seq-mean", budget=4, imitation=name, imitation_mean=mean)
    given = rows(reference=LOGP - 0.3)
    whole = loss(given, COUNTS)[0]
    parts = [loss(LossRows(**{f: getattr(given, f)[i : i + 1] for f in FIELDS}), COUNTS)[0] for i in range(2)]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-6) and parts[1].isfinite()
    nothing = loss(replace(given, action_mask=ACTION & False), StepCounts(0.0, 0.0, 0.0))[0]
    assert nothing.item() == 0.0


FIELDS = ("log_probs", "old_log_probs", "advantages", "action_mask", "prefix_mask", "row_entropy", "reference")


def test_a_method_from_outside_is_a_row_and_a_function(monkeypatch) -> None:
    """-sg(1 - p) log p, focal-like: at p = 1/2, 1/4, 1/8 the loss is log 2 (1/2 + 2 * 3/4 + 3 * 7/8) / 3."""
    monkeypatch.setitem(IMITATION, "focal", lambda t: -(1 - t.log_probs.detach().exp()) * t.log_probs)
    loss = HybridLoss(divisor="token-mean", imitation="focal", imitation_mean="tokens")
    value, _ = loss(rows(advantages=torch.zeros(2, 3)), COUNTS)
    assert value.item() == pytest.approx(math.log(2) * (0.5 + 1.5 + 2.625) / 3)


@pytest.mark.parametrize("name", list(IMITATION))
def test_a_row_needs_an_advantage_where_its_gradient_vanishes_without_one(name: str) -> None:
    """By autograd at A = 0: luffy's A g p / (p + g)^2 is 0, srft's 0.5 e^-H is left, the others never had an A."""
    log_probs = P.log().requires_grad_()
    IMITATION[name](Tokens(log_probs, torch.zeros_like(A), H, torch.log(P))).sum().backward()
    trains = (log_probs.grad != 0).all()
    assert trains or not log_probs.grad.any()
    assert needs_advantage(name) is not bool(trains)


def test_the_policy_needs_an_advantage_and_a_bare_function_none(monkeypatch) -> None:
    monkeypatch.setitem(IMITATION, "focal", lambda tokens: -tokens.log_probs)
    assert needs_advantage(POLICY) and not needs_advantage("focal")
    monkeypatch.setitem(IMITATION, "of A", Imitation(lambda t: -t.advantages * t.log_probs, needs_advantage=True))
    assert needs_advantage("of A")
