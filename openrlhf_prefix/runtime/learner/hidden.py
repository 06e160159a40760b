"""The policy's hidden states of a response, as features of a reward (algorithm/irl.py): one pass without logits.

The head is asked for nothing: what it is given is kept, and a single number a token goes on in place of logits. The
controller has w, and sends it along; what comes back are numbers of H, so that no rank has anything to add up.
"""

from typing import Any, NamedTuple

import torch

from openrlhf_prefix.algorithm.irl import Pair, compare, features
from openrlhf_prefix.runtime.learner.head import Rows

Places = tuple[int, int, int]  # demonstration and own sample, rows of a batch; the first place in which they differ


class Judged(NamedTuple):
    """What a batch of B rows says, on the CPU."""

    last: torch.Tensor  # (B, H) features of the last action tokens; zeros for a row without any
    pairs: list[Pair]


def judge(
    actor: Any,
    sequences: torch.Tensor,
    action_mask: torch.Tensor,
    attention_mask: torch.Tensor,
    pairs: list[Places] | None,
    weights: torch.Tensor | None,
) -> Judged:
    """One forward pass over a batch; all ranks have to make as many.

    Args:
        actor: openrlhf.models.Actor.
        sequences, attention_mask: (B, S).
        action_mask: (B, S - 1), of the tokens from the second on.
        pairs: of rows of this batch.
        weights: (H,) w; None: zeros.
    """
    hidden = _hidden_states(actor, sequences, action_mask, attention_mask)
    last = torch.stack([one[-1] if len(one) else one.new_zeros(one.shape[1]) for one in hidden])
    w = last.new_zeros(last.shape[1], dtype=torch.float32) if weights is None else weights.to(last.device)
    found = [compare(features(hidden[star]), features(hidden[own]), first, w) for star, own, first in pairs or ()]
    return Judged(features(last).cpu(), [Pair(*(value.cpu() for value in pair)) for pair in found])


def _hidden_states(
    actor: Any, sequences: torch.Tensor, action_mask: torch.Tensor, attention_mask: torch.Tensor
) -> list[torch.Tensor]:
    """(T, H) of the action tokens of each row: the state that has read the token, not that which predicts it."""
    rows = Rows(sequences, action_mask, attention_mask, None, actor.packing_samples)
    head, kept = getattr(actor.model, "module", actor.model).get_output_embeddings(), []

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        kept.append(hidden)
        return hidden[..., :1]

    head.forward = forward
    try:
        actor.model(rows.tokens, attention_mask=rows.attention_mask, position_ids=rows.position_ids)
    finally:
        del head.forward
    # A row's tokens lie together, packed or padded: behind the place that predicts a token is its own.
    found = kept[0].flatten(0, 1).index_select(0, rows.where + 1)
    return list(found.split(action_mask.sum(-1).tolist()))
