"""Older weights of the policy, which sample and judge in its place (controller/stages.py).

Every rank keeps its own pieces of the trained weights in host memory, in fp32: 4 bytes a weight and stage over all
ranks, with LoRA those of the adapters alone. They act as the average does (average.py): rounded into the weights that
the model computes with, and the current ones afterwards.
"""

from typing import Any

import torch

from openrlhf_prefix.runtime.learner.average import holder, put

PART = "snapshots"  # its name among the parts of a rank's checkpoint
Pieces = list[torch.Tensor]


class Snapshots:
    """Those of one rank, as a Stateful of its checkpoints."""

    def __init__(self, optimizer: Any, most: int) -> None:
        """
        Args:
            optimizer: of a DeepSpeed engine with ZeRO, whose weights are stage 0's.
            most: how many are kept, the newest.
        """
        self.optimizer, self.most = optimizer, most
        self.of_stage: dict[int, Pieces] = {}
        self.take(0)

    def _trained(self) -> Pieces:
        return getattr(self.optimizer, holder(self.optimizer))

    def take(self, stage: int) -> None:
        """The current weights are those of `stage`."""
        self.of_stage[stage] = [piece.detach().to("cpu", copy=True) for piece in self._trained()]
        for old in sorted(self.of_stage)[: -self.most]:
            del self.of_stage[old]

    @torch.no_grad()
    def act_as(self, stage: int | None) -> None:
        """From now on the model has the weights of a stage, or with None those that train; on all ranks at once."""
        put(self.optimizer, self._trained() if stage is None else self.of_stage[stage])

    def state_dict(self) -> dict[str, Any]:
        return {"of_stage": dict(self.of_stage)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.of_stage = dict(state["of_stage"])
