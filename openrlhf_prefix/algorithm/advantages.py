"""Advantages of a group, one number for a row's continuation and one for its prefix.

With R the reward of a row and mean, std those of the baseline rows (`baseline="all"`: the whole group, "plain": the
rows without a prefix; std is unbiased):

    dr_grpo   A = R - mean                      grpo   A = (R - mean) / (std + 1e-6)
    rloo      A = R - mean of the *other* baseline rows
    reinforce_baseline   dr_grpo's, then (A - mean) / std over all sampled tokens of the rollout batch (`normalized`)

A prefix has the advantage of its row. The variants of the official Prefix-RFT code treat the continuation as a group
of its own, a singleton, and do not centre it:

    dr_grpo_prefix, grpo_prefix    plain rows as above; continuation A = R;  prefix A = R - mean of the plain rows

Example (dr_grpo_prefix), plain rewards 1 0 0 0, prefixed row rewarded 1: plain +0.75 -0.25 -0.25 -0.25,
continuation +1.0, prefix +0.75.
SRFT trains sampled rows by their likelihood instead, with the weight 0.1 e^H for right ones and -1 for wrong ones, H
the mean entropy of the row's tokens before the update. Training on own right samples has 1 for right ones and 0 for
wrong ones, which is REINFORCE with that reward and no baseline.
Source: arXiv 2507.01679, equations 3-5; Dr. GRPO arXiv 2503.20783; RLOO arXiv 2402.14740; REINFORCE++
arXiv 2501.03262; SRFT arXiv 2506.19767.
"""

from dataclasses import dataclass

import torch

ESTIMATORS = ("dr_grpo", "grpo", "rloo", "reinforce_baseline", "dr_grpo_prefix", "grpo_prefix")
BATCH_NORMALIZED = "reinforce_baseline"
BASELINES = ("all", "plain")
STD_EPSILON = 1e-6
MIN_VARIANCE = 1e-8  # of a batch; OpenRLHF's
RIGHT = 0.1


@dataclass(frozen=True)
class GroupAdvantages:
    continuation: torch.Tensor  # (G, N) advantage of the tokens that the policy wrote
    prefix: torch.Tensor  # (G, N) advantage of the prefix tokens; 0 for plain rows, which have none


def group_advantages(
    rewards: torch.Tensor,
    prefixed: torch.Tensor,
    estimator: str = "dr_grpo",
    baseline: str = "all",
    valid: torch.Tensor | None = None,
) -> GroupAdvantages:
    """Advantages of every row against its group.

    Args:
        rewards: (G, N) reward of each row.
        prefixed: (G, N) true for rows that start from a prefix.
        estimator: one of ESTIMATORS.
        baseline: rows that mean and std are taken over, "all" or "plain".
        valid: (G, N) false for rows whose reward is unknown (default: all are known). They are not in any baseline
            and have advantage 0; so has a whole group without a valid baseline row.

    Edge cases: a group of equal rewards gives 0; baseline rows without spread (equal, or one alone) have no scale and
    divide by 1; a row with no other baseline row gets 0 from rloo.

    Raises:
        ValueError: unknown name; a *_prefix estimator without baseline="plain"; baseline="plain" and a group without
            a plain row.
    """
    rewards, prefixed = rewards.float(), prefixed.bool()
    _check(rewards, prefixed, estimator, baseline)
    valid = torch.ones_like(prefixed) if valid is None else valid.bool()
    counted = valid & ~prefixed if baseline == "plain" else valid
    rewards = torch.where(valid, rewards, torch.zeros_like(rewards))
    centred = rewards - _mean(rewards, counted)
    if estimator == "rloo":
        continuation = rewards - _mean_of_others(rewards, counted)
    elif estimator.startswith("grpo"):
        continuation = centred / _scale(centred, counted)
    else:
        continuation = centred
    prefix = continuation
    if estimator.endswith("_prefix"):
        continuation = torch.where(prefixed, rewards, continuation)
        prefix = centred
    known, zero = valid & counted.any(-1, keepdim=True), torch.zeros_like(rewards)
    return GroupAdvantages(torch.where(known, continuation, zero), torch.where(known & prefixed, prefix, zero))


def normalized(
    advantages: torch.Tensor, sampled: torch.Tensor, prefix: torch.Tensor, scale: bool = True
) -> torch.Tensor:
    """Advantages against mean and standard deviation (biased) of all sampled tokens of a rollout batch.

    Args:
        advantages: of the batch's tokens, in any shape.
        sampled: same shape, tokens that the policy wrote.
        prefix: same shape, prefix tokens that train; they are moved and scaled like the others, and not counted.
        scale: divide by the standard deviation.

    Returns:
        the same shape; 0 for all other tokens.
    """
    count = sampled.sum().clamp(min=1)
    centred = advantages - (advantages * sampled).sum() / count
    if scale:
        variance = (centred.square() * sampled).sum() / count
        centred = centred * variance.clamp(min=MIN_VARIANCE).rsqrt()
    return torch.where(sampled | prefix, centred, torch.zeros_like(centred))


def sampled_weights(kind: str, rewards: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
    """What grad log p of sampled rows is multiplied with in place of an advantage; all three (G, N). Right is a reward
    above 0; kind "likelihood" is SRFT's, "right" trains on right samples alone."""
    if kind == "right":
        return (rewards > 0).to(entropy)
    return torch.where(rewards > 0, RIGHT * entropy.exp(), -torch.ones_like(entropy))


def group_spread(rewards: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(G,) standard deviation of the valid rewards of each group; 0 where there are fewer than two."""
    count = valid.sum(-1)
    mean = (rewards * valid).sum(-1) / count.clamp(min=1)
    squares = ((rewards - mean.unsqueeze(-1)).square() * valid).sum(-1)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def _check(rewards: torch.Tensor, prefixed: torch.Tensor, estimator: str, baseline: str) -> None:
    if rewards.shape != prefixed.shape or rewards.dim() != 2:
        raise ValueError(f"rewards {tuple(rewards.shape)} and prefixed {tuple(prefixed.shape)} must both be (G, N)")
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    if baseline not in BASELINES:
        raise ValueError(f"baseline is {baseline!r}: choose one of {', '.join(BASELINES)}")
    if estimator.endswith("_prefix") and baseline != "plain":
        raise ValueError(f"estimator {estimator!r} compares a prefix with the plain rows: set baseline to 'plain'")
    if baseline == "plain" and prefixed.all(-1).any():
        raise ValueError("baseline 'plain' needs a plain row in every group: prefix fewer rows, or set it to 'all'")


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return (values * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp(min=1)


def _mean_of_others(rewards: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """(G, N) mean of the counted rows other than this one; the row itself where there is none."""
    own = rewards * counted
    others = counted.sum(-1, keepdim=True) - counted.long()
    total = own.sum(-1, keepdim=True) - own
    return torch.where(others > 0, total / others.clamp(min=1), rewards)


def _scale(centred: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """(G, 1) unbiased standard deviation of the counted rows, or 1 where they do not vary."""
    squares = (centred.square() * counted).sum(-1, keepdim=True)
    std = (squares / (counted.sum(-1, keepdim=True) - 1).clamp(min=1)).sqrt()
    return torch.where(std > STD_EPSILON, std + STD_EPSILON, torch.ones_like(std))
