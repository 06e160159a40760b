"""Sizes, counts and shares that would fail, or do nothing, long after the models are loaded."""

from collections.abc import Callable
from operator import attrgetter

from openrlhf_prefix.settings.checks.facts import Facts, Rule


def _share(name: str) -> Rule:
    value: Callable[[Facts], float] = attrgetter(name)
    return lambda a: not 0.0 <= value(a) <= 1.0, f"{name} is {{a.{name}}}: a share lies in [0, 1]"


def _at_least_1(name: str) -> Rule:
    value: Callable[[Facts], float] = attrgetter(name)
    return lambda a: value(a) < 1, f"{name} is {{a.{name}}}: give at least 1"


def _steps(name: str) -> Rule:
    value: Callable[[Facts], float] = attrgetter(name)
    return lambda a: value(a) == 0, f"{name} is {{a.{name}}}: give a number of steps, or -1 for never"


SIZES: tuple[str, ...] = (
    "rollout.batch_size",
    "rollout.n_samples_per_prompt",
    "train.batch_size",
    "train.num_episodes",
)
SIZES += ("train.max_epochs", "eval.n_samples_per_prompt", "verifier.workers", "actor.num_gpus_per_node")
SIZES += ("run.check_weights_every",)

TABLE: list[Rule] = [
    (lambda a: a.sampler_error, "{a.sampler_error}"),
    _share("prefix.keep"),
    _share("prefix.demonstration_fraction"),
    _share("prefix.span"),
    *map(_at_least_1, SIZES),
    _steps("ckpt.save_steps"),
    _steps("eval.steps"),
    (
        lambda a: not a.rollout.max_new_tokens or a.rollout.max_new_tokens < 2,
        "rollout.max_new_tokens must be set to 2 or more: a prefix counts as part of the response",
    ),
    (
        lambda a: not 0 <= a.actor.adam.lr < float("inf"),
        "actor.adam.lr is {a.actor.adam.lr}: give 0 or more",
    ),
    _share("reward.error_limit"),
    (
        lambda a: a.reward.timeout <= 0 or a.reward.workers < 1,
        "reward.timeout must be above 0 and reward.workers at least 1",
    ),
    (
        lambda a: a.prefix.gradient_every < 0,
        "prefix.gradient_every is {a.prefix.gradient_every}: give 0 (never) or more",
    ),
    (
        lambda a: not 0 <= a.run.report_seconds < float("inf"),
        "run.report_seconds is {a.run.report_seconds:g}: give seconds, or 0 for no report",
    ),
    (lambda a: a.ckpt.save_before < 0, "ckpt.save_before is {a.ckpt.save_before:g}: give 0 or more seconds"),
    (
        lambda a: a.ckpt.time_limit is not None and a.ckpt.time_limit <= a.ckpt.save_before,
        "ckpt.time_limit {a.ckpt.time_limit:g} leaves no time beside ckpt.save_before {a.ckpt.save_before:g}: both "
        "are seconds, and the limit is that of the whole job",
    ),
]
