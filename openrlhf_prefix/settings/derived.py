"""What follows from the checked flags; `args` is nested, as OpenRLHF has it."""

import argparse
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.algorithm.contrast import NONE
from openrlhf_prefix.algorithm.controllers import CONTROLLERS
from openrlhf_prefix.algorithm.imitation import needs_reference
from openrlhf_prefix.algorithm.lengths import Settings
from openrlhf_prefix.algorithm.mask import SCORES
from openrlhf_prefix.algorithm.presets import ALL, HALF, TENTH
from openrlhf_prefix.algorithm.sampler import PrefixSampler
from openrlhf_prefix.algorithm.schedules import SHAPES, PrefixSchedule
from openrlhf_prefix.algorithm.teacher import SELF
from openrlhf_prefix.algorithm.trust import Trust

Flags = argparse.Namespace | SimpleNamespace


def make_sampler(args: argparse.Namespace, total_steps: int) -> PrefixSampler:
    """The prefix sampler that the (nested) flags describe, for a run of `total_steps` rollout steps."""
    flags = args.prefix
    schedule = PrefixSchedule(
        low_start=flags.low_start,
        low_end=flags.low_end,
        high=flags.high,
        shape=flags.shape,
        total_steps=max(round(flags.span * total_steps), 1) if flags.total_steps is None else flags.total_steps,
    )
    names = ("chunks", "target", "plain", "goal", "scores", "tokens")
    settings = Settings(schedule, stages=tuple(flags.stages), **{name: getattr(flags, name) for name in names})
    return PrefixSampler(
        schedule,
        group_size=args.rollout.n_samples_per_prompt,
        prefixed_per_group=prefixed_rows(args),
        whole=args.hybrid.demonstration == "whole",
        min_tokens=flags.min_tokens,
        seed=args.train.seed,
        controller=CONTROLLERS[flags.controller](settings),
        trust=Trust(flags.trust) if flags.trust else None,
    )


def has_teacher(args: Flags) -> bool:
    """Whether a teacher has a term in the loss at all; `args` is nested."""
    return args.teacher.coef > 0


def teacher_folder(args: Flags) -> str | None:
    """The model that is loaded for it: none for the policy itself; `args` is nested."""
    return args.teacher.model if has_teacher(args) and args.teacher.model != SELF else None


def teacher_steps(args: Flags, total_steps: int) -> int:
    """Global step at which it is withdrawn; `args` is nested."""
    steps = args.teacher.steps
    return total_steps // 2 if steps == HALF else steps or total_steps


def teacher_coef(args: Flags, step: int, total_steps: int) -> float:
    """Weight of its term at a rollout step >= 0; `args` is nested."""
    flags, steps = args.teacher, teacher_steps(args, total_steps)
    if step >= steps:
        return 0.0
    end = flags.coef if flags.end is None else flags.end
    return flags.coef + (end - flags.coef) * SHAPES["linear"](step / steps)


def mask_share(args: Flags) -> float:
    """Share of the scored weights that the mask's method picks; `args` is nested, with a method."""
    return SCORES[args.mask.method].share if args.mask.share is None else args.mask.share


def sft_steps(args: argparse.Namespace, total_steps: int) -> int:
    """Supervised steps before the first rollout; `args` is nested."""
    steps = args.hybrid.sft_steps
    return total_steps // 2 if steps == HALF else steps


def sft_interval(args: argparse.Namespace, total_steps: int) -> int:
    """Supervised steps between two measurements of the validation loss, 0 for none; `args` is nested.

    A tenth of the stage, but 2 steps at the least: from one to the next the loss may rise by chance.
    """
    every = args.hybrid.sft_validate
    return max(sft_steps(args, total_steps) // 10, 2) if every == TENTH else every


def validation_size(args: argparse.Namespace, problems: Iterable[Any]) -> int:
    """How many problems with demonstrations are held out of the supervised steps, where their loss is measured: a
    tenth, one at the least and a step's rows at the most; `args` is nested."""
    rows = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    demonstrated = sum(bool(problem.demonstrations) for problem in problems)
    return min(rows, max(demonstrated // 10, 1)) if args.hybrid.sft_validate else 0


def buffer_size(args: argparse.Namespace) -> int:
    """Problems that wait until they are a supervised step of their own (controller/rescue.py); `args` is nested."""
    return args.hybrid.buffer or args.train.batch_size


def scheduled_steps(args: argparse.Namespace, rollouts: int) -> int:
    """The most optimizer steps that `rollouts` rollout steps can bring, rescued problems included; `args` is nested.

    Example: 20 rollout steps of 16 problems x 8 rows, train.batch_size 128: 20. With hybrid.rescue buffer all 320
    problems may fail, and make two more.
    """
    rows, extra = args.rollout.batch_size * args.rollout.n_samples_per_prompt, 0
    if args.hybrid.rescue == "buffer":
        releases = min(rollouts, rollouts * args.rollout.batch_size // buffer_size(args))  # one a rollout step at most
        extra = releases * (buffer_size(args) // args.train.batch_size)
    return (rollouts * (rows // args.train.batch_size) + extra) * args.train.max_epochs


def prefixed_rows(args: argparse.Namespace) -> int:
    """Rows of a group that start from a demonstration; `args` is nested."""
    rows = args.prefix.prefixed_per_group
    return args.rollout.n_samples_per_prompt if rows == ALL else rows


def imitation_coef(args: argparse.Namespace, step: int, total_steps: int) -> float:
    """Weight of the imitation term at a rollout step >= 0; `args` is nested."""
    flags = args.hybrid
    moved = SHAPES["cosine"](min(step / (flags.imitation_steps or total_steps), 1.0))
    return flags.imitation_coef + (flags.imitation_end - flags.imitation_coef) * moved


def has_reference(args: argparse.Namespace) -> bool:
    """Whether the policy before the run is kept, for a KL term or for the weights of demonstrations and own samples;
    `args` is nested."""
    return args.algo.kl.init_coef > 0 or needs_reference(args.hybrid.imitation) or refers_to_start(args)


def contrasts(args: Flags) -> bool:
    """Whether demonstrations are held against own samples at all; `args` is nested."""
    return args.contrast.rule != NONE


def learns_reward(args: Flags) -> bool:
    """Whether the reward of training rows is learnt from demonstrations, and nobody asked for it; `args` is nested."""
    return args.irl.lr > 0


def refers_to_start(args: Flags) -> bool:
    """Whether they are with the reference model for the older policy; `args` is nested."""
    return args.contrast.rule == "partition"


def data_parallel_ranks(args: argparse.Namespace, model: str = "actor") -> int:
    """Ranks of a model (actor, ref, reward, teacher) that take rows of their own; `args` is nested."""
    nodes, gpus = placement(args, model)
    return nodes * gpus // args.ds.ring_attn_size // args.ds.tensor_parallel_size


def placement(args: Flags, model: str) -> tuple[int, int]:
    """Nodes of a model and GPUs of each; the teacher's are the actor's where nobody said so. `args` is nested."""
    group = getattr(args, model)
    return group.num_nodes or args.actor.num_nodes, group.num_gpus_per_node or args.actor.num_gpus_per_node


def gpus_needed(args: argparse.Namespace) -> int:
    """GPUs that OpenRLHF's placement asks for; `args` is nested."""

    def size(model: str) -> int:
        nodes, gpus = placement(args, model)
        return nodes * gpus

    actor, engines = size("actor"), args.vllm.num_engines * args.vllm.tensor_parallel_size
    beside = size("ref") if has_reference(args) else 0
    beside += size("teacher") if teacher_folder(args) else 0
    reward = 0 if args.reward.remote_url else size("reward")
    if args.train.colocate_all:
        return actor
    return actor + engines + (0 if args.train.colocate_actor_ref else beside) + reward
