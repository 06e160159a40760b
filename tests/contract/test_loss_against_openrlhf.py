"""Without a prefix our loss is OpenRLHF's PolicyLoss, mismatch correction included."""

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime import platform  # noqa: E402

platform.choose().install()

from openrlhf.models.loss import PolicyLoss  # noqa: E402

from openrlhf_prefix.algorithm.hybrid import Correction, HybridLoss, LossRows, StepCounts  # noqa: E402

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
