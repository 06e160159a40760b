"""What a row carries beyond OpenRLHF's Experience: its prefix, as one integer, and its entropies."""

from types import SimpleNamespace
from typing import NamedTuple

import torch
from openrlhf.trainer.ppo_utils.experience import Experience


class ActorForward(NamedTuple):
    log_probs: torch.Tensor  # (B, A)
    entropy: torch.Tensor  # (B, A)


def counts(failed: torch.Tensor, args: SimpleNamespace) -> torch.Tensor:
    """Rows that stay in group statistics and loss, in the shape of `failed`: a failed reward takes its row out, or is
    a 0 like any other (reward.on_error)."""
    return ~(failed.bool() & (args.reward.on_error == "mask"))


def length_of(row: Experience) -> int:
    """Tokens of a row without its padding."""
    return int(row.attention_mask.sum())


def prefix_mask_of(experience: Experience) -> torch.Tensor:
    """(B, A) bool: the first `prefix_length` action tokens of every row."""
    lengths = torch.as_tensor([int(length) for length in experience.info["prefix_length"]])
    mask = experience.action_mask.bool()
    return mask & (mask.cumsum(-1) <= lengths.to(mask.device).unsqueeze(-1))
