"""Dynamic filtering: groups that would train nothing give way to those of further problems.

OpenRLHF compares the mean reward of a group with a range. That mean says little here: a demonstration that is right by
itself lifts it, and a group of wrong answers beside it would stay. What counts is whether a token has an advantage:

    a sampled token             the advantage of its row's continuation (or SRFT's weight, once an answer is right)
    a prefix token              the row's prefix advantage, where prefix tokens train by one
    a demonstration's token     that is imitated whatever its reward, says nothing about the group

A range other than OpenRLHF's (0, 1) still bounds the mean reward of the rows that form the baseline. DAPO,
arXiv 2503.14476, section 3.2.
"""

from dataclasses import replace
from types import SimpleNamespace

import torch
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_prefix.algorithm.advantages import group_advantages
from openrlhf_prefix.algorithm.imitation import needs_advantage
from openrlhf_prefix.runtime.rows.fields import counts

WHOLE_RANGE = (0.0, 1.0)
ROUNDING = 1e-6  # below it, a difference between equal rewards


def with_signal(rows: list[Experience], args: SimpleNamespace) -> list[Experience]:
    """The rows of groups that train something, in their order; each group's rows stand together."""
    size = args.rollout.n_samples_per_prompt

    def table(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).view(-1, size)

    penalised = [replace(row, rewards=row.rewards.float().clone()) for row in rows]
    apply_length_penalties(penalised, args)
    rewards = table([float(row.rewards) for row in penalised])
    lengths = table([float(row.info["prefix_length"]) for row in rows])
    responses = table([float(row.response_length) for row in rows])
    failed = table([float(row.info["reward_failed"]) for row in rows]).bool()
    known = counts(failed, args)
    kept = has_signal(rewards, lengths > 0, responses > lengths, known, args.hybrid, args.prefix.keep)
    low, high = args.algo.dynamic_filtering_range
    if (low, high) != WHOLE_RANGE:
        counted = known & (lengths == 0) if args.hybrid.baseline == "plain" else known
        mean = (rewards * counted).sum(-1) / counted.sum(-1).clamp(min=1)
        kept &= (low < mean) & (mean < high)
    return [row for place, row in enumerate(rows) if kept[place // size]]


def has_signal(
    rewards: torch.Tensor,
    prefixed: torch.Tensor,
    sampled: torch.Tensor,
    known: torch.Tensor,
    flags: SimpleNamespace,
    keep: float,
) -> torch.Tensor:
    """(G,) whether a token of the group has an advantage.

    Args:
        rewards, prefixed: (G, N) of each row.
        sampled: (G, N) whether the policy wrote any of it.
        known: (G, N) false for rows whose reward failed.
        flags: hybrid.{estimator, baseline, sampled, imitation}.
        keep: prefix.keep.
    """
    advantages = group_advantages(rewards, prefixed, flags.estimator, flags.baseline, known)
    found = advantages.continuation.abs() > ROUNDING
    if flags.sampled != "advantage":
        found = (rewards > 0) & known
    found = found & sampled
    if keep > 0 and needs_advantage(flags.imitation):
        found = found | (prefixed & (advantages.prefix.abs() > ROUNDING))
    return found.any(-1)
