"""What can be found wrong before a model loads: tokenizer, context, reward, checkpoint, GPUs."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.version import Version

from openrlhf_prefix.checkpoint.kinds import refuse_checkpoint_as_model
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.derived import gpus_needed, prefixed_rows
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.flags import MATH_VERIFY
from openrlhf_prefix.pins import DEEPSPEED
from openrlhf_prefix.runtime.rewards import FunctionReward, Sample

OLDEST_DEEPSPEED = "0.19.0"
# transformers makes an empty tokenizer, without a word, for some model types whose folder has none of these.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")

WEIGHT_FILES = ("*.safetensors", "*.bin")


def load_tokenizer(args: SimpleNamespace) -> Any:
    """The model's tokenizer, after a look at its config. Raises UserError."""
    from transformers import AutoConfig, AutoTokenizer

    name = args.actor.model_name_or_path
    refuse_checkpoint_as_model(name)
    check_remote_code(args)
    try:
        model_config = AutoConfig.from_pretrained(name, trust_remote_code=args.model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is not a model folder or hub name: {_first_line(error)}") from None
    own = getattr(model_config, "max_position_embeddings", None)
    limit = args.model.max_position_embeddings or own
    if limit is not None and args.data.max_len > limit:
        raise UserError(
            f"data.max_len {args.data.max_len} is more than the {limit} positions of {name}: lower it, or "
            "extend the model with model.max_position_embeddings (and model.rope_theta)"
        )
    if Path(name).is_dir() and not any((Path(name) / file).exists() for file in TOKENIZER_FILES):
        raise UserError(f"{name} has no tokenizer: save one into that folder (none of {', '.join(TOKENIZER_FILES)})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            use_fast=not args.data.disable_fast_tokenizer,
            trust_remote_code=args.model.trust_remote_code,
        )
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{name} has no tokenizer: save one into that folder ({_first_line(error)})") from None
    if not tokenizer("a1", add_special_tokens=False)["input_ids"]:
        raise UserError(f"{name} has no tokenizer: its files name special tokens alone; save the vocabulary, too")
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {name} has no eos token, so that no response would end: set one and save it"
        )
    if args.data.apply_chat_template and not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {name} has no chat template: add one, or leave out data.apply_chat_template"
        )
    return tokenizer


def check_weights(args: SimpleNamespace) -> None:
    """A model folder holds weights. Raises UserError."""
    folder = Path(args.actor.model_name_or_path)
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in WEIGHT_FILES):
        raise UserError(f"{folder} has no weights (none of {', '.join(WEIGHT_FILES)}): copy them there")


def check_remote_code(args: SimpleNamespace) -> None:
    """No model brings Python code along, unless the user trusts it. Raises UserError.

    OpenRLHF and vLLM load every model with trust_remote_code=True, which matters only for a model with an `auto_map`.
    """
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    if args.model.trust_remote_code:
        return
    for name in (args.actor.model_name_or_path, *filter(None, (args.reward.model_name_or_path or "").split(","))):
        try:
            found = [PretrainedConfig.get_config_dict(name)[0], get_tokenizer_config(name)]
        except (OSError, ValueError) as error:
            raise UserError(f"{name} is not a model folder or hub name: {_first_line(error)}") from None
        if any("auto_map" in content for content in found):
            raise UserError(
                f"{name} brings Python code of its own (auto_map in its config): read it, then give "
                "--model.trust_remote_code to run it"
            )


def stop_ids(args: SimpleNamespace, tokenizer: Any) -> list[int]:
    """Ids at which a response ends: the tokenizer's eos, those of the model's generation_config, and the flags'."""
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(args.actor.model_name_or_path).eos_token_id
    except OSError:  # a model without that file: vLLM then knows the tokenizer's alone
        found = None
    more = found if isinstance(found, list) else [] if found is None else [found]
    return list(dict.fromkeys([tokenizer.eos_token_id, *more, *args.rollout.stop_token_ids]))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


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
        if url.endswith(".py") and "def reward_func(" not in Path(url).read_text(encoding="utf-8"):
            raise UserError(f"{url} defines no reward_func(queries, prompts, labels): add it to the file")
        if not url.endswith(".py") and "://" not in url and url not in (MATH_VERIFY, "agent"):
            raise UserError(
                f"reward.remote_url {url!r} is neither a .py file nor http://...: leave it out for math-verify"
            )


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
        outcome = asyncio.run(reward(Sample(prompt + response, prompt, problem.answer, response)))
    except RuntimeError as error:
        raise UserError(f"{urls[0]} does not start: {' '.join(str(error).split())}") from None
    finally:
        reward.close()
    if outcome.failure == "shape":
        raise UserError(f"{urls[0]}: {outcome.text}")
    return f"{urls[0]} failed on problem {problem.id}: {outcome.text}" if outcome.failure else None


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
