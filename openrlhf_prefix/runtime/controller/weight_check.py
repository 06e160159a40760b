"""When trainer and engines are compared after a sync, and the comparison itself (weights/check.py).

After each of the first syncs of a process, then after every k-th, and always after an engine was replaced: what goes
wrong with a sync is a matter of versions and layouts, and shows at once.
"""

import time
from collections.abc import Sequence
from typing import Any

import ray

from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.weights.check import compare, stale_weights

FIRST = 5


class WeightCheck:
    """Counts syncs.

    Args:
        every: k, --run.check_weights_every.
    """

    def __init__(self, every: int) -> None:
        self.every, self.syncs = every, 0

    def after_sync(self, trainer: Any, engines: Sequence[Any], replaced: bool) -> dict[str, float]:
        """Metrics of the comparison, none where it is not due. RunStopped names the tensors that did not arrive.

        Args:
            trainer: group of the actor's ranks.
            engines: Ray actors of PrefixRollout.
            replaced: whether one of them is new in this step.
        """
        return self._compare(trainer, engines) if self.due() or replaced else {}

    def due(self) -> bool:
        """Counts one more sync: whether it is one of those."""
        self.syncs += 1
        return self.syncs <= FIRST or self.syncs % self.every == 0

    def _compare(self, trainer: Any, engines: Sequence[Any]) -> dict[str, float]:
        started = time.time()
        expected = trainer.async_run_method(method_name="weight_fingerprints")
        held = [engine.weight_fingerprints.remote() for engine in engines]
        fingerprints = ray.get(expected)[0]
        comparisons = [compare(fingerprints, workers) for workers in ray.get(held)]
        if message := stale_weights(comparisons):
            raise RunStopped(message)
        return {
            "sync/tensors_checked": float(comparisons[0].checked),
            "sync/tensors_unchecked": float(len(comparisons[0].unchecked)),
            "sync/check_seconds": time.time() - started,
        }
