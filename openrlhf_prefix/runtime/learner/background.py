"""The thread of a training rank that writes its checkpoints while the next steps run.

A save waits for the one before it. What fails in the thread is raised by whoever asks next, and ends the run as if it
had failed at once. The ranks agree on a checkpoint in a group of their own: what they tell each other there must not
come between the collectives of a step.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch.distributed as dist
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

COPY = StagingOptions(
    use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
)


class Saved(NamedTuple):
    """A checkpoint that is complete."""

    tag: str
    seconds: float  # from the begin of its save


class Background:
    """Of one rank; all ranks have to make theirs.

    Args:
        enabled: else a save is written while the step waits, and nothing is copied.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled, self.group = enabled, dist.new_group(backend="gloo")
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[Saved] | None = None
        self._complete: list[Saved] = []

    def copied(self, states: dict[str, Any]) -> dict[str, Any]:
        """The states as they are now, in host memory, whatever becomes of their tensors."""
        if not self.enabled:
            return states
        stager = DefaultStager(COPY)
        copies = stager.stage(states)
        stager.close()
        return copies

    def run(self, tag: str, started: float, write: Callable[[], None]) -> None:
        """Has write() done for the checkpoint `tag`, whose save began at `started` (time.time())."""
        self.wait()

        def save() -> Saved:
            write()
            return Saved(tag, time.time() - started)

        self._under_way = self._thread.submit(save)
        if not self.enabled:
            self.wait()

    def wait(self) -> None:
        """Until the save under way, if any, is complete. Raises what kept it from that."""
        if self._under_way:
            under_way, self._under_way = self._under_way, None
            self._complete.append(under_way.result())

    def complete(self, wait: bool) -> list[Saved]:
        """What has become complete since the last call; with `wait` the save under way, too. Raises as wait() does."""
        if wait or (self._under_way and self._under_way.done()):
            self.wait()
        complete, self._complete = self._complete, []
        return complete
