"""After a weight sync: do the engines hold what the trainer holds?

A tensor's fingerprint is the sum of x^3 + x over its elements x, their bits read as integers; of those of 16 bits
modulo 2^32, which differs for any two of them and needs no wide product. One changed bit changes it, and so do changes
that would cancel in a plain sum (one element up, another down); two elements that change places do not. It is cheap
(one pass, a few MB at a time) and additive: ZeRO-3 shards, vLLM's fused layers (qkv_proj = q_proj + k_proj + v_proj)
and tensor-parallel slices add up to the sum of the whole, so nothing has to be gathered to be compared.
Both sides read the live weights, not what was sent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Elements at a time: few kernels on a GPU; on a CPU within the cache, and too few for PyTorch to wake its threads,
# which takes longer than the work where the cores are busy.
_PART, _PART_CPU = 2**22, 2**15
_BITS = 64  # sums wrap around there, on both sides alike


def fingerprint(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of x^3 + x over a tensor of any shape and dtype, its bits read as integers of its element size.

    A scalar in int64 where the tensor is: the host waits for none of them, but for all at once (read)."""
    bits = tensor.detach().contiguous().view(-1).view(_INTEGERS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    wide = torch.int32 if tensor.element_size() <= 2 else torch.int64
    for part in bits.split(_PART_CPU if tensor.is_cpu else _PART):
        x = part.to(wide)
        total += (x * x).add_(1).mul_(x).sum()
    return total


def read(fingerprints: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The values of fingerprint() by name, brought to the host together."""
    return dict(zip(fingerprints, torch.stack(list(fingerprints.values())).tolist(), strict=True))


def trainer_fingerprints(model: torch.nn.Module) -> dict[str, int]:
    """HF name -> fingerprint of every parameter; all ranks have to call this, and all get the same answer."""
    names, local, sharded, device = [], [], False, torch.cuda.current_device()
    for name, parameter in model.named_parameters():
        names.append(name)
        if hasattr(parameter, "ds_tensor"):  # ZeRO-3: this rank's shard, whose tail may be padding
            sharded = True
            rank = torch.distributed.get_rank(parameter.ds_process_group)
            size = parameter.ds_tensor.ds_numel
            local.append(fingerprint(parameter.ds_tensor.view(-1)[: max(0, parameter.ds_numel - rank * size)]))
        else:
            local.append(fingerprint(parameter.data))
    table = torch.stack([value.to(device, non_blocking=True) for value in local])
    if sharded:
        torch.distributed.all_reduce(table)
    return dict(zip(names, table.tolist(), strict=True))


@torch.no_grad()
def flip_lowest_bits(model: torch.nn.Module) -> None:
    """Changes every weight by its lowest bit, to see whether a sync carries it; a second call undoes it exactly."""
    for parameter in model.parameters():
        held = [parameter.data] if parameter.data.numel() else []
        if hasattr(parameter, "ds_tensor"):
            held.append(parameter.ds_tensor.data)
        for tensor in held:
            tensor.view(_INTEGERS[tensor.element_size()]).bitwise_xor_(1)


class EngineFingerprints:
    """Part of the vLLM worker extensions: runs inside every worker of an engine."""

    def weight_fingerprints(self) -> dict[str, Any]:
        """The fields of EngineWeights, in types that travel between processes."""
        model, config = self.model_runner.get_model(), self.model_config
        heads = config.get_total_num_kv_heads()
        workers = torch.distributed.get_world_size()
        return {
            # The CPU's small-layer kernel keeps biases in fp32; the way back is exact.
            "fingerprints": read({n: fingerprint(value.to(config.dtype)) for n, value in model.named_parameters()}),
            "fused": dict(getattr(model, "packed_modules_mapping", {})),
            "kv_copies": max(1, workers // heads),
        }


@dataclass(frozen=True)
class EngineWeights:
    """What one worker of an engine holds."""

    fingerprints: dict[str, int]  # vLLM's name -> sum over this worker's slice
    fused: dict[str, list[str]]  # qkv_proj -> [q_proj, k_proj, v_proj]
    kv_copies: int  # workers that hold the same key/value head


@dataclass(frozen=True)
class Comparison:
    checked: int  # tensors of the trainer that an engine was compared on
    wrong: tuple[str, ...]  # HF names that differ or are missing in the engine
    unchecked: tuple[str, ...]  # the engine's names that no tensor of the trainer belongs to


def compare(trainer: Mapping[str, int], workers: list[EngineWeights]) -> Comparison:
    """The trainer against all workers of one engine."""
    wrong, unchecked, seen = [], [], set()
    for name in workers[0].fingerprints:
        parts = list(_parts(name, workers[0].fused))
        if not all(part in trainer for part in parts):
            unchecked.append(name)
            continue
        seen.update(parts)
        values = [worker.fingerprints[name] for worker in workers]
        copies = [workers[0].kv_copies if _is_kv(part) else 1 for part in parts]
        whole = _wrapped(trainer[part] for part in parts)
        sliced = _wrapped(trainer[part] * n for part, n in zip(parts, copies, strict=True))
        # Norms and biases are the same on every worker, the others are cut into slices.
        if any(value != whole for value in values) and _wrapped(values) != sliced:
            wrong += parts
    if not unchecked:  # else the engine has it under a name of its own
        wrong += [name for name in trainer if name not in seen]
    return Comparison(len(seen), tuple(wrong), tuple(unchecked))


def _parts(name: str, fused: Mapping[str, list[str]]) -> Iterable[str]:
    """HF names behind a name of vLLM's."""
    for layer, members in fused.items():
        if f".{layer}." in name:
            return (name.replace(f".{layer}.", f".{member}.") for member in members)
    return (name,)


def _is_kv(name: str) -> bool:
    return ".k_proj." in name or ".v_proj." in name


def _wrapped(values: Iterable[int]) -> int:
    """Sum as a signed 64-bit integer, as PyTorch adds."""
    return (sum(values) + 2 ** (_BITS - 1)) % 2**_BITS - 2 ** (_BITS - 1)


def stale_weights(comparisons: list[Comparison]) -> str | None:
    """The sentence that ends a run, or None where every engine is up to date."""
    for number, comparison in enumerate(comparisons):
        if comparison.wrong:
            shown = ", ".join(comparison.wrong[:5]) + (" ..." if len(comparison.wrong) > 5 else "")
            return (
                f"engine {number} does not hold the trainer's weights after a sync: {len(comparison.wrong)} of "
                f"{comparison.checked} tensors differ ({shown}). Rollouts would come from a stale policy: stopping"
            )
    return None
