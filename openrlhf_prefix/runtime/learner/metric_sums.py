"""Metrics of a step as sums, so that their means are those of all tokens, whatever the micro-batches and ranks."""

import torch
import torch.distributed as dist

from openrlhf_prefix.algorithm.hybrid import Sums


class MetricSums:
    """Adds numerators and denominators; every rank adds the same names in the same order."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, sums: Sums) -> None:
        for name, (numerator, denominator) in sums.items():
            pair = torch.stack([numerator.double(), denominator.double()])
            self._sums[name] = self._sums.get(name, 0) + pair

    def merge(self, other: "MetricSums") -> None:
        """Adds what `other` has counted."""
        for name, pair in other._sums.items():
            self._sums[name] = self._sums.get(name, 0) + pair

    def means(self, group: dist.ProcessGroup) -> dict[str, float | None]:
        """Mean of every metric over all ranks; None where nothing was counted."""
        if not self._sums:
            return {}
        table = torch.stack(list(self._sums.values()))
        dist.all_reduce(table, group=group)
        return {
            name: (numerator / denominator if denominator else None)
            for name, (numerator, denominator) in zip(self._sums, table.tolist(), strict=True)
        }
