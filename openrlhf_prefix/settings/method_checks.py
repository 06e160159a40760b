"""Flags of a method and of its loss that do not fit together, refused by checks.py."""

import argparse

from openrlhf_prefix.algorithm.advantages import BATCH_NORMALIZED
from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY, needs_advantage
from openrlhf_prefix.algorithm.presets import HALF, PRESETS
from openrlhf_prefix.data.cuts import trains_whole
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.derived import prefixed_rows


def check_method(args: argparse.Namespace) -> None:
    """The method's own flags fit together. Raises UserError."""
    flags, prefixed = args.hybrid, prefixed_rows(args)
    if flags.demonstration == "whole" and prefixed == args.rollout.n_samples_per_prompt > 1:
        raise UserError(
            f"every row of a group of {prefixed} would be a whole demonstration, the same one {prefixed} times: set "
            "rollout.n_samples_per_prompt to 1"
        )
    if trains_whole(args) and args.prefix.long_demonstrations == "truncate":
        raise UserError(
            f"prefix.long_demonstrations truncate leaves demonstrations without their end, and preset {flags.preset} "
            "trains them to it: use drop"
        )
    if not needs_advantage(flags.imitation) and args.prefix.keep not in (0.0, 1.0):
        raise UserError(
            f"hybrid.imitation {flags.imitation} trains all demonstration tokens, prefix.keep {args.prefix.keep} a "
            "share of them: set prefix.keep to 1"
        )
    if flags.sampled == "likelihood" and flags.estimator == BATCH_NORMALIZED:
        raise UserError(
            f"hybrid.sampled likelihood leaves no advantages to normalise: choose another hybrid.estimator than "
            f"{BATCH_NORMALIZED}"
        )
    _check_controller(args)
    _check_supervised(args)
    if args.algo.dynamic_filtering_enable and (
        flags.rescue != "none" or args.prefix.controller in ("adaptive", "on_failure")
    ):
        what = f"prefix.controller {args.prefix.controller}" if flags.rescue == "none" else f"rescue {flags.rescue}"
        raise UserError(
            f"algo.dynamic_filtering_enable drops the groups that failed before {what} sees them: leave one of the "
            "two out"
        )
    for name in ("imitation_coef", "imitation_end"):
        value = getattr(flags, name)
        if value < 0 or (flags.convex and value > 1):
            raise UserError(f"hybrid.{name} is {value}: give 0 or more, and at most 1 with hybrid.convex")
    if flags.imitation_steps is not None and flags.imitation_steps < 1:
        raise UserError(f"hybrid.imitation_steps is {flags.imitation_steps}: give at least 1 step")


def _check_controller(args: argparse.Namespace) -> None:
    """The controller of the prefix lengths sees what it needs."""
    name, prefixed = args.prefix.controller, prefixed_rows(args)
    if name != "schedule" and (args.hybrid.demonstration == "whole" or not prefixed):
        raise UserError(
            f"prefix.controller {name} decides on the length of prefixes, and preset {args.hybrid.preset} has none: "
            "leave it out"
        )
    if name == "on_failure" and prefixed == args.rollout.n_samples_per_prompt:
        raise UserError(
            "prefix.controller on_failure looks at the plain rows of a group, but all are prefixed: lower "
            "prefix.prefixed_per_group"
        )


def _check_supervised(args: argparse.Namespace) -> None:
    """Steps on demonstrations alone, and rows that a demonstration takes the place of."""
    flags = args.hybrid
    if PRESETS[flags.preset].sft_steps and not flags.sft_steps:
        raise UserError(
            f"preset {flags.preset} begins with supervised steps, and hybrid.sft_steps 0 leaves none: give 1 or more, "
            "or use preset rft"
        )
    if flags.sft_steps < HALF:
        raise UserError(f"hybrid.sft_steps is {flags.sft_steps}: give 0 or more, or -1 for half of the run")
    if flags.sft_validate < 0 or (flags.sft_lr is not None and flags.sft_lr <= 0):
        raise UserError("hybrid.sft_validate is 0 (never) or more, and hybrid.sft_lr above 0")
    if (flags.sft_lr is not None or flags.sft_validate) and not flags.sft_steps:
        raise UserError("hybrid.sft_lr and hybrid.sft_validate need a supervised stage: set hybrid.sft_steps")
    if flags.rescue != "none" and needs_advantage(flags.imitation):
        raise UserError(
            f"hybrid.rescue {flags.rescue} puts demonstrations in, which belong to no group and have no advantage for "
            f"hybrid.imitation {flags.imitation}: train them with one of "
            f"{', '.join(name for name in IMITATION if not needs_advantage(name))}"
        )
    if flags.rescue != "none" and prefixed_rows(args):
        raise UserError(
            f"hybrid.rescue {flags.rescue} is for groups of plain rows: set prefix.prefixed_per_group to 0"
        )
    if not 0 <= flags.gate < args.rollout.n_samples_per_prompt:
        raise UserError(
            f"hybrid.gate is {flags.gate}: right samples of {args.rollout.n_samples_per_prompt}, from 0 to one less"
        )
    if (flags.rescue != "none" or flags.sft_steps) and args.prefix.in_kl:
        raise UserError(
            "prefix.in_kl asks for the reference model on demonstrations that were not rolled out: leave it out with "
            "hybrid.rescue and hybrid.sft_steps"
        )


def check_loss(args: argparse.Namespace) -> None:
    """Settings of the loss that would fail in a worker (the first three: OpenRLHF's PolicyLoss), or do nothing.

    Raises UserError.
    """
    gate, clip = args.algo.advantage, args.actor.dual_clip
    if gate.is_correction_mode == "clip" and (
        gate.is_correction_level == "seq" or gate.is_correction_gating != "ratio"
    ):
        raise UserError(
            "algo.advantage.is_correction_mode clip is for ratios of tokens: use is_correction_mode mask, or "
            "is_correction_level token with is_correction_gating ratio"
        )
    if (
        gate.is_correction_level != "off"
        and gate.is_correction_gating != "ratio"
        and gate.is_correction_threshold[0] > 0
    ):
        raise UserError(
            f"algo.advantage.is_correction_gating {gate.is_correction_gating} is bounded from above alone: give "
            "is_correction_threshold one number"
        )
    if clip is not None and clip <= 1:
        raise UserError(f"actor.dual_clip is {clip}: give a number above 1, or leave it out")
    if clip is not None and not args.hybrid.clip:
        raise UserError("actor.dual_clip has no effect with hybrid.clip false: leave one of them out")
    if args.prefix.in_kl and not args.algo.kl.use_loss:
        raise UserError("prefix.in_kl has no effect without algo.kl.use_loss: leave it out, or ask for a KL loss")
    if args.prefix.in_entropy and args.actor.entropy_coef is None:
        raise UserError("prefix.in_entropy has no effect without actor.entropy_coef: leave it out, or give one")
    if args.hybrid.imitation == POLICY and args.hybrid.imitation_coef != 1 and not args.hybrid.sft_steps:
        raise UserError(
            "hybrid.imitation_coef has no effect with hybrid.imitation policy, whose prefix tokens train like sampled "
            "ones: leave it out, or choose another hybrid.imitation"
        )
    if args.ds.zero_stage not in (1, 2, 3):
        raise UserError(f"ds.zero_stage is {args.ds.zero_stage}: choose 1, 2 or 3")
    if args.ds.tensor_parallel_size > 1:
        raise UserError(
            "ds.tensor_parallel_size above 1 is not supported: its slices cannot be compared with the engines after a "
            "sync; use ds.zero_stage 3, which cuts the weights as well"
        )
    if args.critic.freezing_steps > 0:
        raise UserError(
            "critic.freezing_steps: there is no critic here, and the actor would wait for it: leave it out"
        )
