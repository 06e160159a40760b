"""Flags that cannot hold together, and files that are not there: refused with cause and mend before a run starts."""

import argparse
import os
from pathlib import Path

from openrlhf_prefix.algorithm.advantages import BATCH_NORMALIZED
from openrlhf_prefix.algorithm.imitation import POLICY
from openrlhf_prefix.algorithm.presets import HALF, PRESETS
from openrlhf_prefix.config import FROM_ENVIRONMENT
from openrlhf_prefix.derived import data_parallel_ranks, make_sampler, prefixed_rows, trains_whole
from openrlhf_prefix.errors import UserError

WANDB_KEY = "WANDB_API_KEY"
AT_LEAST_1 = ("rollout.batch_size", "rollout.n_samples_per_prompt", "train.batch_size", "train.num_episodes")
AT_LEAST_1 += ("train.max_epochs", "eval.n_samples_per_prompt", "verifier.workers", "actor.num_gpus_per_node")


def check_flags(args: argparse.Namespace) -> None:
    """Checks that need no file and no cluster; `args` is nested. Raises UserError."""
    try:
        make_sampler(args, total_steps=1)
    except ValueError as error:
        raise UserError(str(error)) from None
    for name in ("keep", "demonstration_fraction", "span"):
        share = getattr(args.prefix, name)
        if not 0.0 <= share <= 1.0:
            raise UserError(f"prefix.{name} is {share}: a share lies in [0, 1]")
    group, prefixed = args.rollout.n_samples_per_prompt, prefixed_rows(args)
    if args.hybrid.baseline == "plain" and prefixed == group:
        raise UserError(
            f"hybrid.baseline plain needs a plain row in every group, but all {group} are prefixed: lower "
            "prefix.prefixed_per_group, or set hybrid.baseline to all"
        )
    if args.hybrid.estimator.endswith("_prefix") and args.hybrid.baseline != "plain":
        raise UserError(f"hybrid.estimator {args.hybrid.estimator} needs hybrid.baseline plain")
    _check_numbers(args)
    rows = args.rollout.batch_size * group
    if rows % args.train.batch_size:
        raise UserError(
            f"a rollout step has {rows} rows (rollout.batch_size x n_samples_per_prompt), which is no multiple of "
            f"train.batch_size {args.train.batch_size}: the last optimizer step would be cut short; change one of them"
        )
    _check_placement(args)
    _check_batch(args)
    _check_method(args)
    _check_unsupported(args)


def _check_numbers(args: argparse.Namespace) -> None:
    """Sizes and counts that would fail, or do nothing, long after the models are loaded."""
    for name in AT_LEAST_1:
        if (value := _get(args, name)) < 1:
            raise UserError(f"{name} is {value}: give at least 1")
    for name in ("ckpt.save_steps", "eval.steps"):
        if (value := _get(args, name)) == 0:
            raise UserError(f"{name} is {value}: give a number of steps, or -1 for never")
    if not 0 <= args.actor.adam.lr < float("inf"):
        raise UserError(f"actor.adam.lr is {args.actor.adam.lr}: give 0 or more")


def _get(args: argparse.Namespace, name: str) -> float:
    group, leaf = name.split(".")
    return getattr(getattr(args, group), leaf)


def _check_batch(args: argparse.Namespace) -> None:
    """Every optimizer step must split evenly into micro-batches over all ranks."""
    ranks = data_parallel_ranks(args)
    unit = ranks * (1 if args.train.dynamic_batch_enable else args.train.micro_batch_size)
    if unit < 1 or args.train.batch_size % unit:
        raise UserError(
            f"train.batch_size {args.train.batch_size} is no multiple of train.micro_batch_size x data-parallel ranks "
            f"= {unit}: change one of them"
        )


def _check_placement(args: argparse.Namespace) -> None:
    """Colocated engines and actor fill the same GPUs; a key that is to come from the environment is there."""
    gpus, engines = args.actor.num_nodes * args.actor.num_gpus_per_node, args.vllm.num_engines or 0
    if args.train.colocate_all and engines and gpus != engines * args.vllm.tensor_parallel_size:
        raise UserError(
            f"train.colocate_all: {engines} engines of {args.vllm.tensor_parallel_size} GPUs do not fill the {gpus} "
            "GPUs of the actor (actor.num_nodes x num_gpus_per_node): leave vllm.num_engines out, and choose a "
            "vllm.tensor_parallel_size that divides them"
        )
    if args.logger.wandb.key == FROM_ENVIRONMENT and WANDB_KEY not in os.environ:
        raise UserError(f"logger.wandb.key {FROM_ENVIRONMENT}: {WANDB_KEY} is not set; export it")


def _check_method(args: argparse.Namespace) -> None:
    """The method's own flags fit together."""
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
    if flags.imitation not in (POLICY, "luffy") and args.prefix.keep not in (0.0, 1.0):
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
    if flags.rescue != "none" and flags.imitation in (POLICY, "luffy"):
        raise UserError(
            f"hybrid.rescue {flags.rescue} puts demonstrations in, which belong to no group and have no advantage for "
            f"hybrid.imitation {flags.imitation}: train them with nll, dft, phi, trust or srft"
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


def _check_unsupported(args: argparse.Namespace) -> None:
    if args.train.async_enable:
        raise UserError(
            "train.async_enable is not supported: the prefix schedule needs the step each rollout belongs to; "
            "leave it out (rollouts and training then alternate)"
        )
    if args.data.prompt_probs:
        raise UserError(
            "data.prompt_probs is not supported: an episode visits every problem once; repeat a file's rows instead"
        )
    if args.data.max_images_per_prompt > 0:
        raise UserError("data.max_images_per_prompt: prefix rollouts are text only; leave it at 0")
    if args.actor.policy_loss_type != "ppo" and prefixed_rows(args):
        raise UserError(
            f"actor.policy_loss_type {args.actor.policy_loss_type} has no definition for prefix tokens: use ppo, or "
            "set prefix.prefixed_per_group to 0"
        )
    if args.actor.policy_loss_type == "gspo" and args.hybrid.divisor != "seq-mean":
        raise UserError(
            f"actor.policy_loss_type gspo with hybrid.divisor {args.hybrid.divisor}: its ratio belongs to a row, "
            "so each row is averaged; set hybrid.divisor to seq-mean"
        )
    if not 0.0 <= args.reward.error_limit <= 1.0:
        raise UserError(f"reward.error_limit is {args.reward.error_limit}: a share lies in [0, 1]")
    if args.reward.timeout <= 0 or args.reward.workers < 1:
        raise UserError("reward.timeout must be above 0 and reward.workers at least 1")
    if args.prefix.gradient_every < 0:
        raise UserError(f"prefix.gradient_every is {args.prefix.gradient_every}: give 0 (never) or more")
    if args.ds.zero_stage < 3 and args.ds.grad_accum_dtype == "fp32":
        raise UserError(
            f"ds.grad_accum_dtype fp32 with ds.zero_stage {args.ds.zero_stage}: DeepSpeed 0.19.6 ignores it (stage "
            "2), or takes another optimizer, whose gradients cannot be looked at (stage 1): use ds.zero_stage 3, or "
            "leave it out"
        )
    if args.prefix.gradient_every and prefixed_rows(args) and args.ds.param_dtype != "bf16":
        raise UserError(
            "prefix.gradient_every measures on ZeRO's bf16 optimizers: set it to 0 with ds.param_dtype fp16"
        )
    if args.ckpt.save_before < 0:
        raise UserError(f"ckpt.save_before is {args.ckpt.save_before:g}: give 0 or more seconds")
    if args.ckpt.time_limit is not None and args.ckpt.time_limit <= args.ckpt.save_before:
        raise UserError(
            f"ckpt.time_limit {args.ckpt.time_limit:g} leaves no time beside ckpt.save_before "
            f"{args.ckpt.save_before:g}: both are seconds, and the limit is that of the whole job"
        )
    _check_loss(args)
    if not args.vllm.num_engines:
        raise UserError("vllm.num_engines is not set: rollouts need at least 1 vLLM engine")


def _check_loss(args: argparse.Namespace) -> None:
    """Settings of the loss that would fail in a worker (the first three: OpenRLHF's PolicyLoss), or do nothing."""
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


def check_files(args: argparse.Namespace) -> None:
    """Every local file the flags name exists; `args` is nested. Hub names (org/name) are left to the hub."""
    named = {
        "actor.model_name_or_path": args.actor.model_name_or_path,
        "data.prompt_dataset": args.data.prompt_dataset,
        "eval.dataset": args.eval.dataset,
        "train.agent_func_path": args.train.agent_func_path,
    }
    for url in args.reward.remote_url if isinstance(args.reward.remote_url, list) else []:
        if url.endswith(".py"):
            named["reward.remote_url"] = url
    for flag in ("actor.model_name_or_path", "data.prompt_dataset"):
        if not named[flag]:
            raise UserError(f"{flag} is not set: give --{flag}, or put it into the config file")
    for flag, value in named.items():
        for path in str(value).split(",") if value else []:
            check_exists(flag, path.split("@")[0].strip())


def check_exists(flag: str, path: str) -> None:
    """`path` is there, unless it may be a hub name. Raises UserError."""
    if looks_local(path) and not Path(path).expanduser().exists():
        raise UserError(f"{flag}: there is no {path!r} here ({Path.cwd()}); check the path")


def check_template(template: str | None) -> None:
    """`template` has a place for the prompt. Raises UserError."""
    if template is not None and "{}" not in template:
        raise UserError(f"--input_template {template!r} has no {{}}: that is where the prompt goes")


def looks_local(name: str) -> bool:
    """Whether `name` must be a file or folder, and cannot be a hub name such as Qwen/Qwen2.5-Math-7B or gpt2."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).suffix in _DATA_SUFFIXES


_DATA_SUFFIXES = {".json", ".jsonl", ".csv", ".parquet", ".arrow", ".py"}
