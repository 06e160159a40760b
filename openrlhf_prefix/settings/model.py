"""The model that the flags name: its config, tokenizer, weights and stop ids, before anything is loaded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.checkpoint.kinds import refuse_checkpoint_as_model
from openrlhf_prefix.data import hub
from openrlhf_prefix.errors import UserError

# transformers makes an empty tokenizer, without a word, for some model types whose folder has none of these.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")

WEIGHT_FILES = ("*.safetensors", "*.bin")
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


def read_config(args: SimpleNamespace, name: str | None = None) -> Any:
    """The config of the policy, or of the model `name`, by its own code where the flags trust it; raises what
    transformers raises."""
    from transformers import AutoConfig

    name = name or args.actor.model_name_or_path
    return AutoConfig.from_pretrained(name, trust_remote_code=args.model.trust_remote_code)


def read_tokenizer(args: SimpleNamespace, name: str | None = None) -> Any:
    """The same for the tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        name or args.actor.model_name_or_path,
        use_fast=not args.data.disable_fast_tokenizer,
        trust_remote_code=args.model.trust_remote_code,
    )


def load_tokenizer(args: SimpleNamespace) -> Any:
    """The model's tokenizer, after a look at its config. Raises UserError."""
    name = args.actor.model_name_or_path
    refuse_checkpoint_as_model(name)
    hub.prepare_model(name)
    check_remote_code(args)
    try:
        model_config = read_config(args)
    except (OSError, ValueError) as error:
        raise hub.refusal(f"{name} is not a model folder or hub name: {_first_line(error)}") from None
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
        tokenizer = read_tokenizer(args)
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


def logit_change(config: Any) -> str | None:
    """What a model's config says that the model does to its logits behind the head; None where it is nothing."""
    text = config.get_text_config()
    return next((name for name in LOGIT_CHANGES if getattr(text, name, None) not in (None, 1)), None)


def check_head(args: SimpleNamespace) -> None:
    """A model with actor.fused_head on leaves its logits alone; after load_tokenizer(). Raises UserError."""
    if args.actor.fused_head == "on" and (change := logit_change(read_config(args))):
        name = args.actor.model_name_or_path
        raise UserError(f"actor.fused_head on: {name} changes its logits ({change}), which needs them; set it to auto")


def check_weights(name: str) -> None:
    """A model folder holds weights. Raises UserError."""
    folder = Path(name)
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in WEIGHT_FILES):
        raise UserError(f"{folder} has no weights (none of {', '.join(WEIGHT_FILES)}): copy them there")


def check_remote_code(args: SimpleNamespace) -> None:
    """No model brings Python code along, unless the user trusts it. Raises UserError.

    OpenRLHF and vLLM load every model with trust_remote_code=True, which matters only for a model with an `auto_map`.
    """
    if args.model.trust_remote_code:
        return
    for name in (args.actor.model_name_or_path, *filter(None, (args.reward.model_name_or_path or "").split(","))):
        refuse_code(name)


def refuse_code(name: str) -> None:
    """Raises UserError for a model whose config or tokenizer names Python code of its own."""
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        found = [PretrainedConfig.get_config_dict(name)[0], get_tokenizer_config(name)]
    except (OSError, ValueError) as error:
        raise hub.refusal(f"{name} is not a model folder or hub name: {_first_line(error)}") from None
    if any("auto_map" in content for content in found):
        raise UserError(
            f"{name} brings Python code of its own (auto_map in its config): read it, and to run it give "
            "--model.trust_remote_code to a training, --trust_remote_code to the other verbs"
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
