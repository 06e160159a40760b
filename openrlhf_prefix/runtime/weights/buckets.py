"""All weights of a model in a few flat buffers, instead of one message per parameter.

    bucket = consecutive tensors, as bytes, one behind the other; a new one begins where the next would pass the limit

A model of 7B parameters in bf16 is 340 tensors and about 60 buckets of 256 MiB (sizes: platform/adapter.py). Names,
dtypes and shapes are sent once, to every engine that is new; both sides derive the same plan from them, and then only
bytes travel.

vLLM's own weight-transfer engine does the same for NCCL and CUDA IPC; it is not used because it has no gloo, so that
what the tests run on a CPU would be another path than what a GPU runs.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

_ALIGNED = 16  # bytes: a tensor's place in the buffer is a multiple, whatever the dtypes before it


class Tensor(NamedTuple):
    """What travels ahead of a weight, in types that any serialisation keeps: ("norm.weight", "bfloat16", [8])."""

    name: str
    dtype: str
    shape: list[int]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class Bucket:
    """Tensors that travel together, each from its offset on."""

    tensors: tuple[Tensor, ...]
    offsets: tuple[int, ...]  # bytes
    size: int  # bytes of the buffer

    def pack(self, values: Iterable[torch.Tensor], device: torch.device | str) -> torch.Tensor:
        """(size,) bytes on `device` with a copy of every value, which come in the order of the tensors."""
        buffer = torch.empty(self.size, dtype=torch.uint8, device=device)
        for (_, place), value in zip(self.unpack(buffer), values, strict=True):
            place.copy_(value)
        return buffer

    def unpack(self, buffer: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and view into the buffer of every tensor."""
        for tensor, offset in zip(self.tensors, self.offsets, strict=True):
            part = buffer[offset : offset + tensor.bytes]
            yield tensor.name, part.view(getattr(torch, tensor.dtype)).view(tensor.shape)


def described(name: str, parameter: torch.Tensor) -> Tensor:
    """A parameter as it is when it is whole, gathered or not."""
    shape = getattr(parameter, "ds_shape", parameter.shape)
    return Tensor(name, str(parameter.dtype).removeprefix("torch."), list(shape))


def plan(tensors: Iterable[Tensor], limit: int) -> list[Bucket]:
    """Buckets of at most `limit` bytes, in the order of the tensors; a tensor above it is a bucket by itself."""
    buckets: list[Bucket] = []
    held: list[tuple[Tensor, int]] = []
    end = 0
    for tensor in tensors:
        start = -(-end // _ALIGNED) * _ALIGNED
        if held and start + tensor.bytes > limit:
            buckets.append(_bucket(held, end))
            held, start = [], 0
        held.append((tensor, start))
        end = start + tensor.bytes
    return [*buckets, _bucket(held, end)] if held else buckets


def _bucket(held: list[tuple[Tensor, int]], size: int) -> Bucket:
    tensors, offsets = zip(*held, strict=True)
    return Bucket(tensors, offsets, size)


class ExpectsBuckets:
    """Part of the vLLM worker extensions: runs inside every worker of an engine."""

    def expect_weights(self, tensors: list[list[Any]], limit: int) -> None:
        """From now on buckets have these tensors, in this order; once for every engine that is new."""
        self._buckets = plan((Tensor(*fields) for fields in tensors), limit)
