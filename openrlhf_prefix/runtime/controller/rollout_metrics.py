"""What a rollout batch looked like before the update. What is called rollout/... is over sampled tokens alone."""

from collections import Counter

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.reward.math import REASONS
from openrlhf_prefix.runtime.rows.fields import prefix_mask_of

# What the rows carry for ourselves; everything else in `info` is a metric of upstream or of the user's reward.
OWN = {
    "prefix_length",
    "prefix_ratio",
    "demonstration",
    "prefix_advantage",
    "reward_failed",
    "row_entropy",
    "solves_alone",
    "verdict",
    "reward",
    "kl",
    "logprobs_diff",
}
RATIO_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


def reward_by_ratio(rewards: torch.Tensor, ratios: torch.Tensor) -> dict[str, float | None]:
    """Mean reward of prefixed rows by how much of the demonstration they were given; both (N,)."""
    buckets = torch.bucketize(ratios, torch.tensor(RATIO_EDGES[1:-1]), right=True)
    edges = zip(RATIO_EDGES, RATIO_EDGES[1:], strict=False)
    return {f"prefix/reward_{low:g}_{high:g}": _mean(rewards[buckets == n]) for n, (low, high) in enumerate(edges)}


def rollout_metrics(
    experiences: list[Experience],
    entropies: list[torch.Tensor],
    raw_rewards: torch.Tensor,
    known: torch.Tensor,
    candidates: list[torch.Tensor],
    selected: list[torch.Tensor],
) -> dict[str, float | None]:
    """All metrics of a rollout batch but the KL's; None where there is nothing to measure.

    Args:
        entropies: (B, A) of the policy, for each experience; NaN, like its log-probs, where nobody had to know.
        raw_rewards: (N,) of all rows, before penalties.
        known: (N,) false for rows that left the group statistics.
        candidates, selected: (B, A) for each experience: prefix tokens of known rows, and those of them that train.
    """
    prefix, sampled = _tokens(experiences)
    candidates, kept = (torch.cat([mask.flatten() for mask in masks]) for masks in (candidates, selected))
    entropy = torch.cat([of_batch.flatten() for of_batch in entropies])
    nll = -torch.cat([experience.action_log_probs.flatten() for experience in experiences])

    def rows(name: str) -> torch.Tensor:
        return torch.cat([experience.info[name].flatten() for experience in experiences]).float()

    lengths, ratios, failed = rows("prefix_length"), rows("prefix_ratio"), rows("reward_failed").bool()
    responses = torch.cat([experience.response_length for experience in experiences]).float()
    truncated = torch.cat([experience.truncated for experience in experiences]).float()
    prefixed, rewards = lengths > 0, raw_rewards[known]
    metrics = {
        "reward": _mean(rewards),
        "reward/plain": _mean(raw_rewards[known & ~prefixed]),
        "reward/prefixed": _mean(raw_rewards[known & prefixed]),
        "reward/failed": float(failed.sum()),
        "rollout/reward_mean": _mean(rewards),
        "rollout/reward_std": rewards.std().item() if len(rewards) > 1 else None,
        "rollout/response_length_mean": _mean((responses - lengths)[responses > lengths]),
        "rollout/truncated_rate": _mean(truncated[responses > lengths]),
        "rollout/num_samples": float(len(raw_rewards)),
        "rollout/tokens_generated": float(sampled.sum()),
        "rollout/equal_groups": _mean(_unmoved(experiences)[known].float()),
        "rollout/entropy": _mean(entropy[sampled]),
        "rollout/nll": _mean(nll[sampled]),
        "prefix/rows": float(prefixed.sum()),
        "prefix/ratio": _mean(ratios[prefixed]),
        "prefix/length": _mean(lengths[prefixed]),
        "prefix/kept": _mean(kept[candidates].float()),
        "prefix/entropy": _mean(entropy[prefix]),
        "prefix/nll": _mean(nll[prefix]),
        **reward_by_ratio(raw_rewards[known & prefixed], ratios[known & prefixed]),
        **{name: _mean_of_known(rows(name)) for name in experiences[0].info if name not in OWN},
    }
    if experiences[0].rollout_log_probs is not None:
        engine = torch.cat([experience.rollout_log_probs.flatten() for experience in experiences])
        metrics["rollout/log_prob_difference"] = _mean((engine + nll)[sampled].abs())
    if "solves_alone" in experiences[0].info:
        metrics["prefix/solves_alone"] = _mean_of_known(rows("solves_alone"))
    if "verdict" in experiences[0].info:
        counts = Counter(REASONS[int(index)] for index in rows("verdict"))
        metrics |= {f"verifier/{reason}": float(counts[reason]) for reason in REASONS}
    return metrics


def sampled_kl(experiences: list[Experience]) -> float | None:
    """Mean KL to the reference model over the sampled tokens."""
    _, sampled = _tokens(experiences)
    return _mean(torch.cat([experience.kl.flatten() for experience in experiences])[sampled])


def _tokens(experiences: list[Experience]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of all action positions are prefix tokens, and which were sampled."""
    action = torch.cat([experience.action_mask.flatten() for experience in experiences]).bool()
    prefix = torch.cat([prefix_mask_of(experience).flatten() for experience in experiences])
    return prefix, action & ~prefix


def _unmoved(experiences: list[Experience]) -> torch.Tensor:
    """(N,) rows without an advantage on any token."""
    return torch.cat([~(experience.advantages * experience.action_mask).any(-1) for experience in experiences])


def _mean(values: torch.Tensor) -> float | None:
    """Mean of the values, None where there are none, or one is unknown (NaN): an absent measurement is not a zero."""
    return values.mean().item() if values.numel() and not values.isnan().any() else None


def _mean_of_known(values: torch.Tensor) -> float | None:
    """Mean without the NaN of rows that brought no such metric."""
    return _mean(values[~values.isnan()])
