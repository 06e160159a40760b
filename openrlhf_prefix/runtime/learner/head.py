"""OpenRLHF's actor without logits: its forward returns log-probs and entropies of the action tokens alone.

Upstream makes the logits of every token, prompts and padding included, three times over in fp32. Here the hidden
states of the action tokens are picked out before the head, and the head returns (1, tokens, 1 or 2) numbers where the
model expects logits (algorithm/fused_head.py).

What is replaced is `lm_head.forward`, for the length of a pass: the module itself is still called, so that ZeRO-3
gathers its weight for forward and backward, and nobody else meets it.

A model that does more to its logits than the head does keeps upstream's way. Most say so in their config; any other is
found by a last number that the head adds, which has to come out as it went in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from openrlhf.models.ring_attn_utils import (
    gather_and_pad_tensor,
    get_tensor_in_current_ring_attn_rank,
    unpad_and_slice_tensor,
)

from openrlhf_prefix.algorithm.fused_head import linear_log_probs
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime import context
from openrlhf_prefix.settings.model import logit_change

UNTOUCHED = torch.tensor(1 / 3).item()  # no number of bf16: a way through bf16 would be noticed, too


def fuse(actor: Any, args: SimpleNamespace, name: str) -> None:
    """Gives OpenRLHF's `actor` the forward of this file, as the flag actor.fused_head says.

    Args:
        actor: openrlhf.models.Actor, before or after it was put into its engine.
        args: nested flags.
        name: what a line about it calls the model.

    Raises:
        RunStopped: actor.fused_head is "on", and the model does not allow it.
    """
    if args.actor.fused_head == "off":
        return
    if why := reason_against(actor, args):
        decline(args, name, why)
    else:
        actor.forward = FusedForward(actor, args, name)


def reason_against(actor: Any, args: SimpleNamespace) -> str | None:
    """Why this model keeps upstream's way, as far as its modules and config show it."""
    model = getattr(actor.model, "module", actor.model)
    head, change = model.get_output_embeddings(), logit_change(model.config)
    if args.ds.use_liger_kernel:
        return "ds.use_liger_kernel brings its own"
    if getattr(actor, "is_vlm", False):
        return "the model reads images"
    if type(head) is not torch.nn.Linear:
        return f"the head is a {type(head).__name__}, and not a plain linear layer"
    if "forward" in vars(head):
        return "something else has replaced the head's forward"
    return f"the model changes its logits ({change})" if change else None


def decline(args: SimpleNamespace, name: str, why: str) -> None:
    """Says it, once, in the terminal of the run."""
    if args.actor.fused_head == "on":
        raise RunStopped(f"actor.fused_head on: {name} does not allow it: {why}; set it to auto")
    if dist.is_initialized() and dist.get_rank() > 0:
        return
    line = f"{name} keeps the logits of all tokens (actor.fused_head): {why}"
    board = getattr(getattr(args, context.ATTRIBUTE, None), "board", None)
    if board is None:
        print(line, flush=True)
    else:
        board.put.remote(line, 0, 0)


class FusedForward:
    """Stands in for Actor.forward, with its arguments and results; `entropy` is that of the action tokens, (B, A)."""

    def __init__(self, actor: Any, args: SimpleNamespace, name: str) -> None:
        self.actor, self.args, self.name = actor, args, name
        self.plain = actor.forward
        self.confirmed = False  # that nothing happens to what the head returns

    def __call__(
        self,
        sequences: torch.Tensor,
        action_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_output: bool = False,
        ring_attn_group: Any = None,
        return_entropy: bool = False,
        **others: Any,
    ) -> Any:
        """(B, A) log-probs of the action tokens, zeros elsewhere, and the model's output beside them if asked for."""
        given = {
            "return_output": return_output,
            "ring_attn_group": ring_attn_group,
            "return_entropy": return_entropy,
            **others,
        }
        if action_mask is None or any(others.values()):  # logits, or log-probs of all tokens
            return self.plain(sequences, action_mask, attention_mask, **given)
        rows = Rows(sequences, action_mask, attention_mask, ring_attn_group, self.actor.packing_samples)
        with replaced_head(self.actor, rows, return_entropy, trained=bool(self.args.actor.entropy_coef)):
            output = self.actor.model(rows.tokens, attention_mask=rows.attention_mask, position_ids=rows.position_ids)
        values = output["logits"]
        if not self.confirmed:
            if set(values[0, -1].tolist()) != {UNTOUCHED}:
                decline(self.args, self.name, "the model changes its logits")
                self.actor.forward = self.plain
                return self.plain(sequences, action_mask, attention_mask, **given)
            self.confirmed = True
        if return_entropy:
            output.entropy = rows.placed(values[0, :-1, 1])
        log_probs = rows.placed(values[0, :-1, 0])
        return (log_probs, output) if return_output else log_probs


class Rows:
    """What upstream makes of (B, S) sequences before its model, and which of their tokens the head is asked about."""

    def __init__(
        self, sequences: torch.Tensor, action_mask: torch.Tensor, attention_mask: torch.Tensor, ring: Any, pack: bool
    ) -> None:
        self.shape, self.width, self.ring, self.pack = sequences.shape, action_mask.shape[1], ring, pack
        # The log-prob of token t + 1 is read at token t: the grid of actions ends one before the last token.
        asked = torch.zeros_like(sequences, dtype=torch.bool)
        asked[:, -1 - self.width : -1] = action_mask.bool()
        if pack:
            self.tokens, self.position_ids, labels, self.ring_pad, self.indices = unpad_and_slice_tensor(
                sequences, attention_mask, ring
            )
            self.attention_mask = None
            asked = asked.flatten()[self.indices].unsqueeze(0)
            if ring is not None:
                asked, _ = get_tensor_in_current_ring_attn_rank(asked, ring, False)
        else:
            self.tokens, self.attention_mask = sequences, attention_mask
            labels = torch.roll(sequences, shifts=-1, dims=1)
            self.position_ids = (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)
        self.where = asked.flatten().nonzero().squeeze(-1)
        self.labels = labels.flatten()[self.where]

    def placed(self, values: torch.Tensor) -> torch.Tensor:
        """(B, A) of this rank's numbers, of all ranks of a ring; zeros where no token is asked about."""
        grid = values.new_zeros(self.tokens.numel()).index_put((self.where,), values).view_as(self.tokens)
        if self.pack:
            grid = gather_and_pad_tensor(grid, self.ring, self.ring_pad, self.indices, *self.shape)
        return grid[:, -1 - self.width : -1]


@contextmanager
def replaced_head(actor: Any, rows: Rows, entropy: bool, trained: bool) -> Iterator[None]:
    """While the block runs, the model's head returns (1, n + 1, 1 or 2) numbers instead of logits.

    Those of the n tokens that `rows` asks about, log-prob and entropy, and UNTOUCHED in the last place. Entropies have
    a gradient, which costs another pass over each block of the vocabulary, only where they are `trained`.
    """
    model = getattr(actor.model, "module", actor.model)
    head = model.get_output_embeddings()

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        picked = hidden.flatten(0, 1).index_select(0, rows.where)
        log_probs, entropies = linear_log_probs(
            picked, head.weight, rows.labels, actor.temperature, entropy, head.bias
        )
        if entropies is None:
            values = log_probs.unsqueeze(-1)
        else:
            values = torch.stack([log_probs, entropies if trained else entropies.detach()], -1)
        return torch.cat([values, values.new_full((1, values.shape[1]), UNTOUCHED)]).unsqueeze(0)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward
