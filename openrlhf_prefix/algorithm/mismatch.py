"""Weights for tokens that the rollout engine and the trainer do not see alike.

vLLM samples with its own kernels, so a token's probability there (pi_rollout) differs a little from the trainer's
(pi_old). The correction weighs a sampled token by w = pi_old / pi_rollout, inside a band:

    mode clip   w clamped into [low, high]
    mode mask   w where the gated statistic lies in [low, high], else 0

The statistic is w itself (gating "ratio") or the divergence of the two Bernoulli distributions "this token or another
one" ("binary_kl", "tv"); level "seq" takes its mean over the row (geometric for w) and drops whole rows.
Prefix tokens were never sampled by the engine: they have weight 1 and no part in a row's statistic.
Source: "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (Yao et al., 2025).
"""

import torch

P_MIN = 1e-6  # keeps the logarithms of the binary divergence finite


def mismatch_weights(
    old_log_probs: torch.Tensor,
    rollout_log_probs: torch.Tensor,
    sampled_mask: torch.Tensor,
    level: str,
    mode: str,
    gating: str,
    low: float,
    high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight of every token and whether its unit fell outside the band.

    Args:
        old_log_probs, rollout_log_probs: (B, A) of the trainer and of the engine.
        sampled_mask: (B, A) true on tokens that the engine sampled (neither padding nor prefix).
        level, mode, gating, low, high: as OpenRLHF's --algo.advantage.is_correction_* flags.

    Returns:
        (weights (B, A), 1 off the mask; outside (B, A) bool, false off the mask).
    """
    mask = sampled_mask.bool()
    log_ratio = torch.where(mask, old_log_probs - rollout_log_probs, torch.zeros_like(old_log_probs)).detach()
    weight = log_ratio.exp()
    if gating == "ratio":
        statistic = _row_mean(log_ratio, mask).exp() if level == "seq" else weight
    else:
        divergence = _binary_divergence(old_log_probs.detach(), rollout_log_probs, gating)
        statistic = _row_mean(divergence, mask) if level == "seq" else divergence
    outside = ((statistic < low) | (statistic > high)).expand_as(mask) & mask
    weight = weight.clamp(low, high) if mode == "clip" else weight.masked_fill(outside, 0.0)
    return torch.where(mask, weight, torch.ones_like(weight)), outside


def _row_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)


def _binary_divergence(old_log_probs: torch.Tensor, rollout_log_probs: torch.Tensor, gating: str) -> torch.Tensor:
    p = rollout_log_probs.exp().clamp(P_MIN, 1 - P_MIN)
    q = old_log_probs.exp().clamp(P_MIN, 1 - P_MIN)
    if gating == "tv":
        return (p - q).abs()
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
