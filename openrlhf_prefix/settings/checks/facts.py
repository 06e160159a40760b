"""What the rows of the tables read: every flag under its own name, and what follows from several of them."""

import os
from collections.abc import Callable
from typing import Any

from openrlhf_prefix.algorithm.controllers import CONTROLLERS
from openrlhf_prefix.algorithm.imitation import (
    IMITATION,
    needs_advantage,
    needs_entropy,
    needs_reference,
    trains_unseen,
)
from openrlhf_prefix.algorithm.lengths import Schedule
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.data.cuts import trains_whole
from openrlhf_prefix.settings.derived import (
    buffer_size,
    contrasts,
    data_parallel_ranks,
    has_reference,
    has_teacher,
    learns_reward,
    make_sampler,
    placement,
    prefixed_rows,
    teacher_folder,
)


class Facts:
    """`a.train.batch_size` is that flag; the properties below are numbers that OpenRLHF or we make of several.

    Example: 16 problems x 8 samples, one of them prefixed: a.group 8, a.prefixed 1, a.rows 128.
    """

    def __init__(self, args: Any) -> None:
        self._args = args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, name)

    @property
    def group(self) -> int:
        """Rows of a group."""
        return self.rollout.n_samples_per_prompt

    @property
    def prefixed(self) -> int:
        """Rows of a group that start from a demonstration."""
        return prefixed_rows(self._args)

    @property
    def rows(self) -> int:
        """Rows of a rollout step."""
        return self.rollout.batch_size * self.group

    @property
    def gpus(self) -> int:
        """GPUs of the actor."""
        return self.actor.num_nodes * self.actor.num_gpus_per_node

    @property
    def ranks(self) -> int:
        """Ranks of the actor that train on rows of their own."""
        return data_parallel_ranks(self._args)

    @property
    def unit(self) -> int:
        """Rows that all ranks together take at least: an optimizer step must be a multiple."""
        return self.ranks * (1 if self.train.dynamic_batch_enable else self.train.micro_batch_size)

    @property
    def engine_gpus(self) -> int:
        """GPUs of all engines."""
        return (self.vllm.num_engines or 0) * self.vllm.tensor_parallel_size

    @property
    def alone(self) -> bool:
        """Every row is a whole demonstration: nothing is sampled."""
        return self.hybrid.demonstration == "whole" and self.prefixed == self.group

    @property
    def taught(self) -> bool:
        """A teacher has a term in the loss."""
        return has_teacher(self._args)

    @property
    def teacher_gpus(self) -> tuple[int, int] | None:
        """Nodes and GPUs of each, for a teacher that is a model of its own."""
        return placement(self._args, "teacher") if teacher_folder(self._args) else None

    @property
    def contrasts(self) -> bool:
        """Demonstrations are held against own samples."""
        return contrasts(self._args)

    @property
    def learns_reward(self) -> bool:
        """The reward of training rows is learnt from demonstrations."""
        return learns_reward(self._args)

    @property
    def taught_alone(self) -> bool:
        """Sampled rows train by a teacher's word alone, to the end of the run."""
        flags = self.teacher
        return bool(self.taught and flags.on == "all" and flags.instead and not flags.steps)

    @property
    def trains_whole(self) -> bool:
        """Demonstrations are trained to their end."""
        return trains_whole(self._args)

    @property
    def imitates(self) -> bool:
        """Demonstration tokens have a loss of their own that asks for no advantage."""
        return not needs_advantage(self.hybrid.imitation)

    @property
    def weighs_by_entropy(self) -> bool:
        """Demonstration tokens are weighted by the policy's entropy on them."""
        return needs_entropy(self.hybrid.imitation)

    @property
    def weighs_by_reference(self) -> bool:
        """Demonstration tokens are weighted by their probability before the run."""
        return needs_reference(self.hybrid.imitation)

    @property
    def reference_elsewhere(self) -> bool:
        """It would share the actor's GPUs, and is given others."""
        names, shared = ("num_nodes", "num_gpus_per_node"), self.train.colocate_all or self.train.colocate_actor_ref
        return shared and any(getattr(self.ref, name) != getattr(self.actor, name) for name in names)

    @property
    def referred(self) -> bool:
        """The policy before the run is kept."""
        return has_reference(self._args)

    @property
    def buffer(self) -> int:
        """Rescued problems that make supervised steps."""
        return buffer_size(self._args)

    @property
    def imitations(self) -> str:
        """Names of those, a plugin's as well."""
        return ", ".join(name for name in IMITATION if not needs_advantage(name))

    @property
    def sft_imitations(self) -> str:
        """Those that a supervised step can train with."""
        return ", ".join(name for name in IMITATION if trains_unseen(name))

    @property
    def controller(self) -> type[Schedule]:
        """What decides on the length of a prefix."""
        return CONTROLLERS[self.prefix.controller]

    @property
    def watches(self) -> bool:
        """It learns from what came of its draws."""
        return self.controller.observe is not Schedule.observe

    @property
    def preset(self) -> Any:
        """Row of the table of methods."""
        return PRESETS[self.hybrid.preset]

    @property
    def gate(self) -> Any:
        """Flags of the correction for sampled tokens."""
        return self.algo.advantage

    @property
    def sampler_error(self) -> str:
        """What the prefix sampler says against its flags; empty where nothing."""
        try:
            make_sampler(self._args, total_steps=1)
        except ValueError as error:
            return str(error)
        return ""

    def in_environment(self, name: str) -> bool:
        return name in os.environ


Rule = tuple[Callable[[Facts], Any], str]
