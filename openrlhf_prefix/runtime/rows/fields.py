"""What a row carries beyond OpenRLHF's Experience: its prefix, as one integer, entropies, what other models said."""

import math
from types import SimpleNamespace
from typing import NamedTuple

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

TEACHER = "teacher_log_probs"  # entry of info, (B, A): NaN where the teacher does not act; absent where there is none
CONTRAST = "contrast"  # entry of info, (B,): c of each row (algorithm/contrast.py); absent where there is no rule


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


def contrast_of(experience: Experience) -> torch.Tensor | None:
    """(B, 1) c of every row; None where there is no rule. In a micro-batch the entries of info are lists of rows."""
    if CONTRAST not in experience.info:
        return None
    values = [float(value) for value in experience.info[CONTRAST]]
    return torch.tensor(values, device=experience.action_mask.device).unsqueeze(-1)


def teacher_of(experience: Experience) -> torch.Tensor | None:
    """(B, A) log-probs by the teacher, NaN where it does not act; None where it acts on no row.

    In a micro-batch they are a list of rows, each as wide as it was before; blank rows are narrower now.
    """
    if TEACHER not in experience.info:
        return None
    mask = experience.action_mask
    found = torch.full(mask.shape, math.nan, device=mask.device)
    for place, row in enumerate(experience.info[TEACHER]):
        values = row.flatten()[: mask.shape[1]]
        found[place, : len(values)] = values.to(mask.device)
    return found
