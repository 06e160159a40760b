"""The groups of a batch wait in the engine for each other, and vLLM starts on all of them at once, in their order.

The last digits of a log-prob depend on the rows that are computed together. Ray delivers calls a little later or
earlier and in another order each time, so that without this two runs of one seed would differ. vLLM is paused while
it takes the requests in, which is a matter of milliseconds; from then on its batches follow from the requests alone.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, NamedTuple

from vllm.v1.engine.exceptions import EngineDeadError

POLL_SECONDS = 0.001
HEALTH_SECONDS = 0.5


class Turn(NamedTuple):
    """The place of a group among those that one engine was asked for together."""

    batch: str
    place: int
    size: int


class _Group(NamedTuple):
    go: asyncio.Future
    rows: int


class Turns:
    """Part of an engine actor.

    Args:
        engine: has `llm`, vLLM's engine, and get_num_unfinished_requests().
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._batches: dict[str, dict[int, _Group]] = {}
        self._refused = 0  # rows of the present batch
        self._starting: set[asyncio.Task] = set()  # asyncio itself holds tasks weakly

    async def come(self, turn: Turn, rows: int) -> asyncio.Future:
        """Returns when all groups of the batch have come, with the start of the batch: it is awaited beside the rows,
        as it raises what kept vLLM from starting, and they would wait for ever.

        Args:
            turn: whose turn it is.
            rows: what the group will ask vLLM for, before it awaits anything else.
        """
        if turn.size == 1:
            started = asyncio.get_running_loop().create_future()
            started.set_result(None)
            return started
        groups = self._batches.setdefault(turn.batch, {})
        groups[turn.place] = _Group(asyncio.get_running_loop().create_future(), rows)
        if len(groups) == turn.size:
            task = asyncio.create_task(self._start(self._batches.pop(turn.batch)))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        return await groups[turn.place].go

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Counts rows that ended in an exception: vLLM does not have them, and they are not waited for."""
        try:
            yield
        except Exception:
            self._refused += 1
            raise

    async def _start(self, groups: dict[int, _Group]) -> None:
        try:
            await self._together(groups)
        except Exception as error:
            for group in groups.values():
                if not group.go.done():
                    group.go.set_exception(error)
            raise

    async def _together(self, groups: dict[int, _Group]) -> None:
        """vLLM gets all rows of the groups, and starts on them then."""
        idle = self.engine.get_num_unfinished_requests() == 0  # one at work is not held up
        self._refused = 0
        with contextlib.suppress(EngineDeadError):  # every row raises it, too
            if idle:
                await self._alive(self.engine.llm.pause_generation(mode="keep", clear_cache=False))
        for place in sorted(groups):
            groups[place].go.set_result(asyncio.current_task())
        rows = sum(group.rows for group in groups.values())
        while idle and self.engine.get_num_unfinished_requests() + self._refused < rows:
            await asyncio.sleep(POLL_SECONDS)
        with contextlib.suppress(EngineDeadError):
            if idle:
                await self._alive(self.engine.llm.resume_generation())

    async def _alive(self, call: Coroutine) -> None:
        """Awaits a call to vLLM's process. Raises EngineDeadError; vLLM itself waits for a dead one for ever."""
        task = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait([task], timeout=HEALTH_SECONDS))[0]:
                await self.engine.llm.check_health()
            await task
        finally:
            task.cancel()
