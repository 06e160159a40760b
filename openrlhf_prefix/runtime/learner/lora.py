"""LoRA: what the engines and exports get is the merged weight W + (alpha / rank) B A; the adapter alone trains.

OpenRLHF 0.11.2 sends PEFT's parameters under PEFT's names, and vLLM knows neither an adapter nor those names. So every
weight is merged on its way, and W itself is never touched: nothing is rounded twice.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import torch

from openrlhf_prefix.runtime.weights import check

PREFIX, BASE, DOWN, UP = "base_model.model.", ".base_layer.", ".lora_A.default.", ".lora_B.default."


def scaling(flags: SimpleNamespace) -> float:
    """alpha / rank of the flags ds.lora; as PEFT has it."""
    return flags.alpha / flags.rank


def adapter_dtype(model: torch.nn.Module) -> torch.dtype:
    """In which the adapters train; under ZeRO-3 that is fp32, whatever the weights have."""
    return next(parameter.dtype for name, parameter in model.named_parameters() if is_adapter(name))


def is_adapter(name: str) -> bool:
    return DOWN in name or UP in name


def adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapters alone, by the names that PEFT gives them in a file."""
    return {name.replace(".default.", "."): tensor for name, tensor in sorted(state.items()) if is_adapter(name)}


def merge(state: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """Tensors by PEFT's names as the source model has them: adapters merged, in fp32, and rounded once."""
    merged = {}
    for name, tensor in state.items():
        if is_adapter(name):
            continue
        if BASE in name and name.endswith(".weight"):
            down, up = (state[name.replace(BASE, part)].float() for part in (DOWN, UP))
            tensor = (tensor.float() + scale * (up @ down)).to(tensor.dtype)
        merged[_plain(name)] = tensor
    return merged


def sources(model: torch.nn.Module) -> dict[str, dict[str, torch.nn.Parameter]]:
    """Name in the source model -> the parameters that its merged weight is made of, by PEFT's names; W comes first."""
    held = dict(model.named_parameters())
    found = {}
    for name, parameter in held.items():
        if is_adapter(name):
            continue
        made_of = {name: parameter}
        if BASE in name and name.endswith(".weight"):
            made_of |= {name.replace(BASE, part): held[name.replace(BASE, part)] for part in (DOWN, UP)}
        found[_plain(name)] = made_of
    return found


def merged_parameters(model: torch.nn.Module, scale: float) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and merged value of every parameter of a PEFT model in training; all ranks have to go through all."""
    import deepspeed

    for name, made_of in sources(model).items():
        with deepspeed.zero.GatheredParameters(list(made_of.values())):  # does nothing below ZeRO-3
            value = merge({key: value.detach() for key, value in made_of.items()}, scale)[name].clone()
        yield name, value


def fingerprints(model: torch.nn.Module, scale: float) -> dict[str, int]:
    """check.trainer_fingerprints of the merged weights."""
    return check.read({name: check.fingerprint(tensor) for name, tensor in merged_parameters(model, scale)})


def _plain(name: str) -> str:
    """A name of PEFT's, as the source model has it."""
    return name.removeprefix(PREFIX).replace(BASE, ".")
