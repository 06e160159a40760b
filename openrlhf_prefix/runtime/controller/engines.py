"""The vLLM engines as the controller sees them: a dead one is replaced and what it had to do is asked for again.

Ray makes a dead engine actor anew in its place (max_restarts), so that handles stay good, but the new one knows
neither its reward nor the current weights, and the group in which weights travel is broken. So, in this order: wait
until it is up, configure it, form the group anew, send the weights and compare them (weights/check.py), and only then
ask again.

A request is a pure function of (seed, step, problem, slot) and carries the seed of its sampling: asked again it gives
the same row, and the step goes on as if nothing had happened. A second death within one step ends the run.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError
from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_prefix.errors import EngineLost, RunStopped
from openrlhf_prefix.runtime import deadlines
from openrlhf_prefix.runtime.engine.turns import Turn

DEATHS = (RayActorError, EngineDeadError)  # of the actor, and of vLLM's process below it
PING_SECONDS = 120.0  # an engine that says nothing for so long counts as dead
RESTART_SECONDS = 900.0  # until a new engine has loaded its model
POLL_SECONDS = 1.0
DEATHS_PER_STEP = 1


@dataclass
class _Group:
    """What one engine was asked for: turn and arguments of generate_group, and the reference to its answer."""

    engine: int
    turn: Turn
    call: tuple[Any, ...]
    answer: Any


class Engines:
    """Stands in for the module `ray` in OpenRLHF's loop over rollouts: wait() and get() know about dead engines.

    Args:
        handles: Ray actors of PrefixRollout, in OpenRLHF's order.
        args: nested flags; reward and verifier are what an engine is configured with.
        variables: of the URLs of reward servers.
        rejoin: called with whether rollouts wait for it, after engines were replaced.
        watch: called about every second while waiting; raises to end the run.
    """

    def __init__(
        self,
        handles: Sequence[Any],
        args: SimpleNamespace,
        variables: Mapping[str, str],
        rejoin: Callable[[bool], None],
        watch: Callable[[], None],
    ) -> None:
        self.handles, self.args, self.variables = handles, args, variables
        self.rejoin, self.watch = rejoin, watch
        self.deaths = 0  # in the present step
        self.lost: EngineLost | None = None
        self._groups: dict[Any, _Group] = {}
        self._heard = time.time()  # when a group was last sent or answered
        self._births: list[str] = []

    def connect(self) -> None:
        """Waits until all engines have loaded their models. To be called before anything else, once or more."""
        if not self._births:
            self._configure(self.handles)
            self._births = ray.get([handle.ping.remote() for handle in self.handles])

    def _configure(self, handles: Sequence[Any]) -> None:
        ray.get([handle.configure.remote(self.args.reward, self.args.verifier, self.variables) for handle in handles])

    def loads(self) -> list[int]:
        """Unfinished rows of every engine."""
        calls = "get_num_unfinished_requests"
        try:
            return ray.get([getattr(handle, calls).remote() for handle in self.handles])
        except DEATHS:
            self._recover()
            return ray.get([getattr(handle, calls).remote() for handle in self.handles])

    def submit(self, groups: Sequence[tuple[int, list[Any], Any]], max_length: int) -> list[Any]:
        """Asks for groups, each of the engine by its side, which starts on all of its own at once (turns.py).

        Args:
            groups: number of the engine, requests, and how they are sampled.
            max_length: of prompt and response together.

        Returns:
            A reference per group, for wait() and get().
        """
        batch, sizes, places = uuid.uuid4().hex, Counter(engine for engine, *_ in groups), Counter()
        answers = []
        for engine, *call in groups:
            turn = Turn(batch, places[engine], sizes[engine])
            places[engine] += 1
            answers.append(self.handles[engine].generate_group.remote(turn, *call, max_length))
            self._groups[answers[-1]] = _Group(engine, turn, (*call, max_length), answers[-1])
        self._heard = time.time()
        return answers

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        """ray.wait, which looks around while it waits."""
        deadline = time.time() + timeout
        while True:
            self.watch()
            ready, pending = ray.wait(references, num_returns=num_returns, timeout=POLL_SECONDS)
            if ready:
                self._heard = time.time()
            elif time.time() - self._heard > deadlines.phase_seconds():
                silent = sorted({group.engine for group in self._groups.values()})
                raise RunStopped(
                    f"rollouts: no answer from engine {', '.join(map(str, silent))} for "
                    f"{deadlines.phase_seconds():.0f} s: see the logs of Ray; --run.phase_seconds changes the deadline"
                )
            if ready or time.time() > deadline:
                return ready, pending

    def get(self, reference: Any) -> Any:
        """The rows of a group, from a new engine where the old one died over them."""
        while True:
            group = self._groups[reference]
            if not self.wait([group.answer], 1, POLL_SECONDS)[0]:
                continue
            try:
                rows = ray.get(group.answer)
            except DEATHS:
                self._recover()
            else:
                del self._groups[reference]
                return rows

    def _recover(self) -> None:
        """Replaces dead engines in the middle of rollouts, and asks again for all that they had not answered."""
        dead = self.revive(generating=True)
        for group in self._groups.values():
            if group.engine in dead and not self._answered(group.answer):
                group.turn = Turn(group.turn.batch, 0, 1)  # the others of its batch may have been answered
                group.answer = self.handles[group.engine].generate_group.remote(group.turn, *group.call)

    def _answered(self, reference: Any) -> bool:
        try:
            ray.get(reference, timeout=0)
        except (*DEATHS, GetTimeoutError):
            return False
        return True

    def revive(self, generating: bool = False) -> set[int]:
        """Replaces dead engines; returns their numbers.

        Args:
            generating: rollouts wait for them, so that they need the current weights at once.

        Raises:
            EngineLost: more than one has died in this step, or a new one does not come up.
        """
        dead = {index for index, handle in enumerate(self.handles) if not self._well(index, handle)}
        if not dead:
            return dead
        self.deaths += len(dead)
        if self.deaths > DEATHS_PER_STEP:
            raise EngineLost(f"{self.deaths} engines died within one step: see Ray's logs for what killed them")
        for index in dead:
            self._births[index] = self._new_birth(index)
        self._configure([self.handles[index] for index in dead])
        self.rejoin(generating)
        return dead

    def _well(self, index: int, handle: Any) -> bool:
        """Whether the engine of the last look is alive; kills one that is not quite dead, so that Ray replaces it."""
        try:
            return ray.get(handle.ping.remote(), timeout=PING_SECONDS) == self._births[index]
        except RayActorError:
            return False
        except (EngineDeadError, GetTimeoutError):
            ray.kill(handle, no_restart=False)
            return False

    def _new_birth(self, index: int) -> str:
        """Waits for the successor of a dead engine."""
        deadline = time.time() + RESTART_SECONDS
        while time.time() < deadline:
            try:
                birth = ray.get(self.handles[index].ping.remote(), timeout=deadline - time.time())
                if birth != self._births[index]:
                    return birth
            except (ActorUnavailableError, EngineDeadError):
                pass  # still on its way down or up
            except (RayActorError, GetTimeoutError) as error:
                raise EngineLost(f"engine {index} died and could not be replaced: {error}") from None
            time.sleep(POLL_SECONDS)
        raise EngineLost(f"engine {index} died, and its successor was not up after {RESTART_SECONDS:.0f} s")
