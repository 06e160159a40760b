"""The moving average of the weights, which a run with train.enable_ema exports.

    average <- beta average + (1 - beta) weights        once for every optimizer step that was applied

DeepSpeed's optimizer holds the trained weights in fp32, cut over the ranks in flat pieces. Every rank averages its own
pieces, in host memory: 4 bytes a weight over all ranks, and no collective. With LoRA the adapters are what trains, so
A and B are averaged, and merged after that. OpenRLHF 0.11.2 keeps a second engine instead, whose average never moves
under ZeRO-3 and once in an accumulation count of steps below it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

PART = "average"  # its name among the parts of a rank's checkpoint


def holder(optimizer: Any) -> str:
    """Attribute with the fp32 weights that this rank trains: flat tensors, one for each group of DeepSpeed's."""
    names = ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups")  # ZeRO-3; 1 and 2
    return next(name for name in names if hasattr(optimizer, name))


def put(optimizer: Any, pieces: list[torch.Tensor]) -> None:
    """Rounds these into the weights that the model computes with, as after a step; all ranks have to call this."""
    name = holder(optimizer)
    held = getattr(optimizer, name)
    setattr(optimizer, name, pieces)
    try:
        if name == "single_partition_of_fp32_groups":
            optimizer.update_lp_params()
        else:
            optimizer.checkpoint_event_prologue()  # what every rank has whole is cut
            for number in range(len(pieces)):
                optimizer._reassign_or_swap_out_partitioned_parameters(number)
            optimizer.checkpoint_event_epilogue()  # and gathered anew
    finally:
        setattr(optimizer, name, held)


class Average:
    """That of one rank, as a Stateful of its checkpoints."""

    def __init__(self, optimizer: Any, beta: float) -> None:
        """
        Args:
            optimizer: of a DeepSpeed engine with ZeRO, whose weights are the first average.
            beta: share of the old average in the new one.
        """
        self.optimizer, self.beta = optimizer, beta
        self.pieces = [piece.detach().to("cpu", copy=True) for piece in self._trained()]

    def _trained(self) -> list[torch.Tensor]:
        return getattr(self.optimizer, holder(self.optimizer))

    @torch.no_grad()
    def update(self) -> None:
        """Called after every applied step."""
        for average, piece in zip(self.pieces, self._trained(), strict=True):
            average.lerp_(piece.detach().cpu(), 1 - self.beta)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the average; all ranks have to enter and leave it."""
        put(self.optimizer, self.pieces)
        try:
            yield
        finally:
            put(self.optimizer, self._trained())

    def state_dict(self) -> dict[str, Any]:
        return {"pieces": self.pieces}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for average, saved in zip(self.pieces, state["pieces"], strict=True):
            average.copy_(saved)


def of_checkpoint(files: list[Path]) -> list[list[torch.Tensor]]:
    """The saved pieces of all ranks, from the files of their states: laid out like those of the optimizers."""
    return [torch.load(file, weights_only=True)[PART]["pieces"] for file in files]
