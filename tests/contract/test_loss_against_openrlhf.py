"""Without a prefix our loss is OpenRLHF's PolicyLoss, mismatch correction included."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime import platform  # noqa: E402

platform.choose().install()

from openrlhf.models.loss import PolicyLoss  # noqa: E402

from openrlhf_prefix.runtime.actor import PrefixPolicyLoss  # noqa: E402

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


def our_loss(divisor, level, mode, gating, threshold, dual_clip=None):
    return PrefixPolicyLoss(
        SimpleNamespace(
            hybrid=SimpleNamespace(divisor=divisor, clip_prefix=True),
            actor=SimpleNamespace(eps_clip_low_high=(0.2, 0.28), dual_clip=dual_clip),
            algo=SimpleNamespace(
                advantage=SimpleNamespace(
                    is_correction_level=level,
                    is_correction_mode=mode,
                    is_correction_gating=gating,
                    is_correction_threshold=threshold,
                )
            ),
            rollout=SimpleNamespace(max_new_tokens=11),
        )
    )


@pytest.mark.parametrize(("level", "mode", "gating", "threshold"), CORRECTIONS)
@pytest.mark.parametrize(("divisor", "token_level"), [("token-mean", True), ("seq-mean", False)])
@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_without_prefix_loss_and_gradient_equal_upstreams(
    divisor, token_level, level, mode, gating, threshold, dual_clip
):
    new, old, advantages, mask, rollout = batch()
    counts = {"dp_size": 2, "batch_num_tokens": torch.tensor(57.0), "global_batch_size": torch.tensor(9.0)}
    upstream = PolicyLoss(
        clip_eps_low=0.2,
        clip_eps_high=0.28,
        dual_clip=dual_clip,
        token_level_loss=token_level,
        is_correction_level=level,
        is_correction_mode=mode,
        is_correction_gating=gating,
        is_correction_threshold=threshold,
    )
    ours = our_loss(divisor, level, mode, gating, threshold, dual_clip)
    ours.prefix_mask = torch.zeros_like(mask)
    results = []
    for loss in (upstream, ours):
        leaf = new.clone().requires_grad_()
        value = loss(leaf, old, advantages, action_mask=mask, rollout_log_probs=rollout, **counts)[0]
        value.backward()
        results.append((value, leaf.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-5, atol=1e-7)
    assert results[0][1].abs().sum() > 0


def test_the_correction_leaves_prefix_tokens_alone():
    """The engine's log-probs of prefix tokens are zeros that mean nothing: changing them changes neither loss nor
    gradient, at the level of tokens and of rows."""
    new, old, advantages, mask, rollout = batch()
    prefix = mask & (torch.arange(mask.shape[1]) < 3)
    for level in ("token", "seq"):
        gradients = []
        for noise in (0.0, -7.0):
            ours = our_loss("token-mean", level, "mask", "ratio", (0.9, 1.1))
            ours.prefix_mask = prefix
            leaf = new.clone().requires_grad_()
            tampered = torch.where(prefix, torch.full_like(rollout, noise), rollout)
            ours(leaf, old, advantages, mask, tampered, 1, 40.0, 6.0).loss.backward()
            gradients.append(leaf.grad)
        assert torch.equal(*gradients)
        assert gradients[0][prefix].abs().sum() > 0
