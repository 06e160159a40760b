"""What can be found wrong before a model loads: tokenizer, context, reward, checkpoint, GPUs."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.version import Version

from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.pins import DEEPSPEED
from openrlhf_prefix.reward.user_reward import binds_reward_func
from openrlhf_prefix.runtime.engine.rewards import FunctionReward, Outcome, Sample
from openrlhf_prefix.settings.derived import gpus_needed, prefixed_rows
from openrlhf_prefix.settings.flags import MATH_VERIFY

OLDEST_DEEPSPEED = "0.19.0"


def check_deepspeed(version: str) -> None:
    """Refuses versions whose gradients are wrong. Raises UserError."""
    if Version(version) < Version(OLDEST_DEEPSPEED):
        raise UserError(
            f"deepspeed {version} drops micro-batches when the optimizer is offloaded, so that runs train on wrong "
            f"gradients: install {OLDEST_DEEPSPEED} or later (scripts/setup.sh installs {DEEPSPEED})"
        )


def check_rewards(args: SimpleNamespace) -> None:
    """A reward file defines reward_func; an agent does not meet prefixes. Raises UserError."""
    if args.train.agent_func_path and prefixed_rows(args):
        raise UserError(
            "train.agent_func_path starts every row from its prompt: use --hybrid.preset rft, or leave the agent out"
        )
    for url in args.reward.remote_url or []:
        if url.endswith(".py"):
            check_reward_file(url)
        if not url.endswith(".py") and "://" not in url and url not in (MATH_VERIFY, "agent"):
            shown = url.partition("?")[0]  # no token in a log
            raise UserError(
                f"reward.remote_url {shown!r} is neither a .py file nor http://...: leave it out for math-verify"
            )


def check_reward_file(path: str) -> None:
    """The file is there and defines reward_func; it is not run. Raises UserError."""
    if not Path(path).is_file():
        raise UserError(f"there is no reward file {path!r} here ({Path.cwd()}): check the path")
    try:
        defined = binds_reward_func(Path(path).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{path} is no Python: line {error.lineno}: {error.msg}") from None
    if not defined:
        raise UserError(f"{path} defines no reward_func(queries, prompts, labels): add it to the file")


def try_reward(args: SimpleNamespace, tokenizer: Any, problem: Problem) -> str | None:
    """Runs a user's reward file once, on the first problem, before anything expensive starts.

    Returns:
        What the file said where it merely failed on this one sample; a sample may fail, see --reward.on_error.

    Raises:
        UserError: the file does not start, or returns what no reward is.
    """
    urls = args.reward.remote_url or []
    if not urls or not urls[0].endswith(".py"):
        return None
    response = tokenizer.decode(problem.demonstrations[0] if problem.demonstrations else [])
    prompt = tokenizer.decode(problem.prompt_ids)
    reward = FunctionReward(urls[0], workers=1, timeout=args.reward.timeout)
    try:
        outcome = first_reward(reward, urls[0], Sample(prompt + response, prompt, problem.answer, response))
    finally:
        reward.close()
    return f"{urls[0]} failed on problem {problem.id}: {outcome.text}" if outcome.failure else None


def first_reward(reward: FunctionReward, path: str, sample: Sample) -> Outcome:
    """What a reward file says first. Raises UserError where it does not start, or returns what no reward is."""
    try:
        outcome = asyncio.run(reward(sample))
    except RuntimeError as error:
        raise UserError(f"{path} does not start: {' '.join(str(error).split())}") from None
    if outcome.failure == "shape":
        raise UserError(f"{path}: {outcome.text}")
    return outcome


def check_gpus(args: SimpleNamespace) -> None:
    """The cluster has the GPUs that the placement asks for. Raises UserError."""
    import ray

    needed, found = gpus_needed(args), int(ray.cluster_resources().get("GPU", 0))
    if needed > found:
        ray.shutdown()
        raise UserError(
            f"the placement asks for {needed} GPUs, the cluster has {found}: lower actor.num_gpus_per_node or "
            "vllm.num_engines, share them with train.colocate_all, or add nodes"
        )
