"""A teacher is named, has something to say that the policy does not know, and GPUs to say it on."""

import math

from openrlhf_prefix.algorithm.presets import HALF
from openrlhf_prefix.algorithm.teacher import SELF
from openrlhf_prefix.settings.checks.facts import Facts, Rule
from openrlhf_prefix.settings.checks.method import FILTERED


def _shares_gpus(a: Facts) -> bool:
    return a.train.colocate_all or a.train.colocate_actor_ref


def _both_half(a: Facts) -> bool:
    return a.hybrid.sft_steps == a.teacher.steps == HALF


def _idle(a: Facts) -> bool:
    flags = a.teacher
    return not flags.coef and (flags.model or flags.end is not None or flags.steps or flags.instead)


TABLE: list[Rule] = [
    (
        lambda a: a.teacher.coef < 0 or (a.teacher.end is not None and a.teacher.end < 0) or a.teacher.clamp <= 0,
        "teacher.coef and teacher.end are 0 or more, and teacher.clamp is above 0",
    ),
    (
        lambda a: a.teacher.steps < HALF,
        "teacher.steps is {a.teacher.steps}: give 1 or more, 0 for the whole run, or -1 for half of it",
    ),
    (
        lambda a: a.taught and a.teacher.steps and (a.hybrid.sft_steps >= a.teacher.steps > 0 or _both_half(a)),
        "teacher.steps and hybrid.sft_steps both count from the first step, and supervised steps ask no teacher: "
        "raise teacher.steps above hybrid.sft_steps",
    ),
    (
        _idle,
        "teacher.model, teacher.end, teacher.steps and teacher.instead have no effect without a weight: give "
        "teacher.coef, or a preset with a teacher (opd, opd_then_rft, kdrl)",
    ),
    (
        lambda a: a.taught and not a.teacher.model,
        "preset {a.hybrid.preset} learns from a teacher, and none is named: give --teacher.model FOLDER, or self with "
        "--teacher.context demonstration",
    ),
    (
        lambda a: a.taught and a.teacher.model == SELF and a.teacher.context == "plain",
        "teacher.model self in teacher.context plain would compare the policy with itself: set teacher.context to "
        "demonstration, or name another model",
    ),
    (
        lambda a: (
            a.teacher.template is not None
            and not all(part in a.teacher.template for part in ("{prompt}", "{demonstration}"))
        ),
        "teacher.template has to hold {{prompt}} and {{demonstration}}, in whose places they are put",
    ),
    (
        lambda a: a.taught and a.alone,
        "every row of preset {a.hybrid.preset} is a whole demonstration: nothing is sampled for a teacher to judge",
    ),
    (
        lambda a: a.taught and a.algo.dynamic_filtering_enable,
        FILTERED.replace("{what}", "the teacher"),
    ),
    (
        lambda a: _shares_gpus(a) and a.teacher_gpus not in (None, (a.actor.num_nodes, a.actor.num_gpus_per_node)),
        "train.colocate_all and train.colocate_actor_ref put the teacher on the GPUs of the actor: leave "
        "teacher.num_nodes and teacher.num_gpus_per_node out",
    ),
    (
        lambda a: a.teacher_gpus and math.prod(a.teacher_gpus) % a.ds.ring_attn_size,
        "ds.ring_attn_size {a.ds.ring_attn_size} does not divide the GPUs of the teacher: change teacher.num_nodes or "
        "teacher.num_gpus_per_node",
    ),
]
