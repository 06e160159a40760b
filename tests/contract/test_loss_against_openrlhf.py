"""Without a prefix our loss is OpenRLHF's PolicyLoss, mismatch correction included; of demonstrations its SFTLoss."""

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter  # noqa: E402

adapter.choose().install()

from openrlhf.models.loss import PolicyLoss, SFTLoss  # noqa: E402

from openrlhf_prefix.algorithm.hybrid import Correction, HybridLoss, LossRows, StepCounts  # noqa: E402
from openrlhf_prefix.runtime.learner.actor_trainer import hybrid_loss  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

FLAGS = {"vllm.num_engines": 1, "rollout.max_new_tokens": 11}

CORRECTIONS = [
    ("off", "mask", "ratio", (0.5, 5.0)),
    ("token", "mask", "ratio", (0.9, 1.1)),
    ("token", "clip", "ratio", (0.9, 1.1)),
    ("token", "mask", "binary_kl", (0.0, 0.002)),
    ("token", "mask", "tv", (0.0, 0.02)),
    ("seq", "mask", "ratio", (0.97, 1.03)),
    ("seq", "mask", "binary_kl", (0.0, 0.003)),
]


def batch(seed=0, rows=6, width=11):
    generator = torch.Generator().manual_seed(seed)

    def normal(scale):
        return scale * torch.randn(rows, width, generator=generator)

    old = -normal(1.0).abs() - 0.1
    lengths = torch.randint(1, width + 1, (rows, 1), generator=generator)
    mask = torch.arange(width) < lengths
    new = old + normal(0.3)
    return new, old, normal(1.0), mask, old + normal(0.15)


@pytest.mark.parametrize(("level", "mode", "gating", "threshold"), CORRECTIONS)
@pytest.mark.parametrize(("divisor", "token_level"), [("token-mean", True), ("seq-mean", False)])
@pytest.mark.parametrize("dual_clip", [None, 3.0])
@pytest.mark.parametrize("policy", ["ppo", "gspo"])
def test_without_prefix_loss_and_gradient_equal_upstreams(
    divisor, token_level, level, mode, gating, threshold, dual_clip, policy
):
    if policy == "gspo" and token_level:
        pytest.skip("upstream's gspo averages each row")
    new, old, advantages, mask, rollout = batch()
    if policy == "gspo":
        advantages = advantages[:, :1].expand_as(mask)
    upstream = PolicyLoss(
        clip_eps_low=0.2,
        clip_eps_high=0.28,
        dual_clip=dual_clip,
        token_level_loss=token_level,
        policy_loss_type=policy,
        is_correction_level=level,
        is_correction_mode=mode,
        is_correction_gating=gating,
        is_correction_threshold=threshold,
    )
    correction = None if level == "off" else Correction(level, mode, gating, *threshold)
    ours = HybridLoss(policy, divisor, 11, 0.2, 0.28, dual_clip, correction=correction)

    def of_upstream(leaf):
        counts = {"batch_num_tokens": torch.tensor(57.0), "global_batch_size": torch.tensor(9.0)}
        return upstream(leaf, old, advantages, action_mask=mask, rollout_log_probs=rollout, **counts)[0]

    def of_ours(leaf):
        rows = LossRows(leaf, old, advantages, mask, torch.zeros_like(mask), rollout)
        return ours(rows, StepCounts(rows=9.0, tokens=57.0, sampled=57.0))[0]

    results = []
    for loss in (of_upstream, of_ours):
        leaf = new.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        results.append((value, leaf.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-5, atol=1e-7)
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize("divisor", ["token-mean", "seq-mean", "constant"])
def test_the_preset_rft_is_upstreams_loss(divisor):
    """From its flags; the constant divisor, which upstream lacks, as the token mean times tokens / (rows x budget)."""
    flags = {**FLAGS, "hybrid.preset": "rft", "hybrid.divisor": divisor, "actor.eps_clip_low_high": [0.2, 0.28]}
    ours = hybrid_loss(flags_of(flags))
    upstream = PolicyLoss(clip_eps_low=0.2, clip_eps_high=0.28, token_level_loss=divisor != "seq-mean")
    new, old, advantages, mask, _ = batch(seed=1)
    totals = {"batch_num_tokens": torch.tensor(57.0), "global_batch_size": torch.tensor(9.0)}
    scale = 57.0 / (9.0 * 11) if divisor == "constant" else 1.0
    first, second = (new.clone().requires_grad_() for _ in range(2))
    expected = scale * upstream(first, old, advantages, action_mask=mask, **totals)[0]
    rows = LossRows(second, old, advantages, mask, torch.zeros_like(mask))
    value, _ = ours(rows, StepCounts(rows=9.0, tokens=57.0, sampled=57.0))
    expected.backward()
    value.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-7)


def test_the_preset_sft_is_upstreams_supervised_loss():
    """Its rows are whole demonstrations: the mean of -log p over their tokens, as SFTLoss has it."""
    ours = hybrid_loss(flags_of({**FLAGS, "hybrid.preset": "sft", "rollout.n_samples_per_prompt": 1}))
    new, _, advantages, mask, _ = batch(seed=2)
    rows = LossRows(new, new, advantages, mask, mask)
    value, _ = ours(rows, StepCounts(rows=6.0, tokens=float(mask.sum()), sampled=0.0))
    torch.testing.assert_close(value, SFTLoss()(new, mask))
