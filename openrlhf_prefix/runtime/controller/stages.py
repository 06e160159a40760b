"""Stages of a run: which weights the engines sample with, where these are older than those that train.

A run of T steps has `contrast.stages` stages of ceil(T / stages) steps. At the start of each the trainers keep the
weights (learner/snapshots.py), the newest `contrast.snapshots` of them; a step samples with one, drawn by the seed and
the step alone, and the same weights are the older policy of its loss. With one snapshot it is that of the stage's
start; with one stage it is the policy before the run. Evaluations see the current weights.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ray

from openrlhf_prefix.algorithm.sampler import stable_uniform


class Stages:
    """Those of a run; none (`length` 0) where the engines always have the current weights."""

    def __init__(self, args: SimpleNamespace, total_steps: int, group: Any) -> None:
        """
        Args:
            args: nested flags.
            group: the policy's actors.
        """
        flags = args.contrast
        self.length = math.ceil(total_steps / flags.stages) if flags.stages else 0
        self.most, self.seed, self.steps, self.group = flags.snapshots, args.train.seed, total_steps, group
        self.held = 0 if self.length else None  # what the engines have; None: the current weights. They start alike.

    def of(self, step: int) -> int | None:
        """The stage whose weights sample at a global step; past the last step, the one of that."""
        if not self.length:
            return None
        newest = min(step, self.steps - 1) // self.length
        oldest = max(newest - self.most + 1, 0)
        return oldest + int(stable_uniform("stage", self.seed, step) * (newest - oldest + 1))

    def begin(self, step: int) -> None:
        """Called when all steps before `step` are done: where a stage begins, its weights are kept."""
        if self.length and step % self.length == 0 and step < self.steps:
            self._ask("take_snapshot", step // self.length)

    @contextmanager
    def acting(self, stage: int | None) -> Iterator[None]:
        """Within the block the policy's actors have the weights of a stage; None: the current ones."""
        if stage is None:
            yield
            return
        self._ask("act_as", stage)
        try:
            yield
        finally:
            self._ask("act_as", None)

    def _ask(self, method: str, stage: int | None) -> None:
        ray.get(self.group.async_run_method(method_name=method, stage=stage))
