"""Flags that cannot hold together, and files that are not there: refused with cause and mend before a run starts."""

import argparse
import os

from openrlhf_prefix.data.files import check_exists
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.config import FROM_ENVIRONMENT
from openrlhf_prefix.settings.derived import data_parallel_ranks, make_sampler, prefixed_rows
from openrlhf_prefix.settings.method_checks import check_loss, check_method

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
    check_method(args)
    check_loss(args)
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
    if not args.vllm.num_engines:
        raise UserError("vllm.num_engines is not set: rollouts need at least 1 vLLM engine")


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
