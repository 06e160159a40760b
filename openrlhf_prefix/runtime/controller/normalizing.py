"""Advantages against those of the whole rollout batch, whatever its split into forward batches (REINFORCE++)."""

from collections.abc import Sequence

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.advantages import normalized


def normalize(
    experiences: Sequence[Experience],
    known: Sequence[torch.Tensor],
    prefix_masks: Sequence[torch.Tensor],
    selected: Sequence[torch.Tensor],
    scale: bool,
) -> None:
    """Replaces the advantages of all rows, and the means of them that their info holds.

    Args:
        known: (B, 1) of each, false for rows that leave the statistics.
        prefix_masks, selected: (B, A) of each, prefix tokens and those that train.
        scale: whether to divide by the standard deviation.
    """
    masks = zip(experiences, known, prefix_masks, strict=True)
    counted = [(one.action_mask.bool() & of_rows & ~prefix).flatten() for one, of_rows, prefix in masks]
    flat = normalized(
        torch.cat([experience.advantages.flatten() for experience in experiences]),
        torch.cat(counted),
        torch.cat([kept.flatten() for kept in selected]),
        scale=scale,
    )
    parts = flat.split([experience.advantages.numel() for experience in experiences])
    for experience, part, prefix_mask, kept in zip(experiences, parts, prefix_masks, selected, strict=True):
        experience.advantages = part.view_as(experience.advantages)
        sampled = experience.action_mask.bool() & ~prefix_mask
        for name, mask in (("return", sampled), ("prefix_advantage", kept)):
            experience.info[name] = (experience.advantages * mask).sum(-1) / mask.sum(-1).clamp(min=1)
