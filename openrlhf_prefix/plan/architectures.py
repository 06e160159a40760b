"""What a plan needs to know of a model: the sizes of its parameters, and the widths of a layer.

Parameters are counted on the meta device by the model class itself, so that nothing is restated here. The recipes'
models are known without a hub: their published config.json, the numbers of the architecture alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_prefix.data import hub
from openrlhf_prefix.errors import Unreachable, UserError

_QWEN2 = {"model_type": "qwen2", "num_hidden_layers": 28}
_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128}
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Math-1.5B": _QWEN2
    | {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-Math-7B": _QWEN2
    | {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-32B": _QWEN2
    | {
        "num_hidden_layers": 64,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-1.7B-Base": _QWEN3
    | {
        "num_hidden_layers": 28,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-8B-Base": _QWEN3
    | {
        "num_hidden_layers": 36,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.1-8B": {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True)
class Architecture:
    name: str
    sizes: tuple[int, ...]  # elements of every parameter; a tied one once
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    head_norms: bool  # queries and keys are normalised, as in Qwen3

    @property
    def parameters(self) -> int:
        return sum(self.sizes)


def load(name: str, config_file: str | None = None) -> Architecture:
    """The architecture of a model: by config file, the table above, its folder, or the hub. Raises UserError."""
    return of_config(_config(name, config_file), name)


def _config(name: str, config_file: str | None) -> Any:
    mend = "give its config.json as --model_config"
    if config_file is None and name not in KNOWN:
        try:
            hub.prepare_model(name)
        except Unreachable as error:
            raise Unreachable(f"{error}: {mend}") from None
    from transformers import AutoConfig

    if config_file is not None:
        try:
            return AutoConfig.for_model(**json.loads(Path(config_file).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"--model_config {config_file} is not the config.json of a model: {error}") from None
    if name in KNOWN:
        return AutoConfig.for_model(**KNOWN[name])
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)  # else transformers asks on the terminal
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name} has no config here ({reason}): {mend}") from None


def of_config(config: Any, name: str) -> Architecture:
    """Counts a model on the meta device. Raises UserError for one that is no dense decoder."""
    import torch
    from transformers import AutoModelForCausalLM

    if getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None):
        raise UserError(f"{name} is a mixture of experts: a plan knows dense decoders alone")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise UserError(f"{name} is no causal language model: {str(error).splitlines()[0]}") from None
    parameters = dict(model.named_parameters())
    return Architecture(
        name=name,
        sizes=tuple(parameter.numel() for parameter in parameters.values()),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        vocab=config.vocab_size,
        head_norms=any(parameter_name.endswith("q_norm.weight") for parameter_name in parameters),
    )
