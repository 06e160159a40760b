"""LoRA: what the engines and exports get is the merged weight W + (alpha / rank) B A; the adapter alone trains.

OpenRLHF 0.11.2 sends PEFT's parameters under PEFT's names, and vLLM knows neither an adapter nor those names. So every
weight is merged on its way, and W itself is never touched: nothing is rounded twice.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import torch

from openrlhf_prefix.runtime.weights.check import fingerprint

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
        merged[name.removeprefix(PREFIX).replace(BASE, ".")] = tensor
    return merged


def merged_parameters(model: torch.nn.Module, scale: float) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and merged value of every parameter of a PEFT model in training; all ranks have to go through all."""
    import deepspeed

    held = dict(model.named_parameters())
    for name, parameter in held.items():
        if is_adapter(name):
            continue
        group = {name: parameter}
        if BASE in name and name.endswith(".weight"):
            group |= {name.replace(BASE, part): held[name.replace(BASE, part)] for part in (DOWN, UP)}
        with deepspeed.zero.GatheredParameters(list(group.values())):  # does nothing below ZeRO-3
            merged = merge({key: value.detach() for key, value in group.items()}, scale)
            ((plain, tensor),) = ((key, value.clone()) for key, value in merged.items())
        yield plain, tensor


def fingerprints(model: torch.nn.Module, scale: float) -> dict[str, int]:
    """weight_check.trainer_fingerprints of the merged weights."""
    return {name: fingerprint(tensor) for name, tensor in merged_parameters(model, scale)}


class Merged:
    """Stands in for the model while OpenRLHF sends it: merged parameters by the source's names.

    All of them are held at once, on every rank: as much memory as the model in its own precision.
    """

    def __init__(self, model: torch.nn.Module, scale: float) -> None:
        self.model, self.scale = model, scale

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for name, tensor in merged_parameters(self.model, self.scale):
            parameter = torch.nn.Parameter(tensor, requires_grad=False)
            parameter.ds_shape = parameter.shape  # under ZeRO-3 upstream asks for this one
            yield name, parameter
