"""What the policy before the run says of demonstration tokens, for the weights that look at it (imitation.py: f_...).

The reference model is OpenRLHF's, a frozen copy on the actor's GPUs or on its own. Its log-probs take the place that
they have in a row for a KL loss; rows without a demonstration token hold zeros there, which nobody reads.
"""

from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience


def refer(batches: list[Experience], maker: Any) -> None:
    """Fills in `base_action_log_probs`, (B, A), of forward batches.

    Args:
        maker: the experience maker, whose `reference` is the group of the model.

    Raises:
        ValueError: there is no such group.
    """
    asked = [batch for batch in batches if any(int(length) for length in batch.info["prefix_length"])]
    if asked and maker.reference is None:  # log_probs() would ask the policy
        raise ValueError("demonstration tokens are weighed by a reference model, and there is none")
    found = maker.log_probs(asked, group=maker.reference) if asked else []
    for batch in batches:
        batch.base_action_log_probs = torch.zeros(batch.action_mask.shape)
    for batch, log_probs in zip(asked, found, strict=True):
        batch.base_action_log_probs = log_probs
