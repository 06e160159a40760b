"""What the controller does about a dead engine, in which order; the engines are played by lists of events."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")

from ray.exceptions import ActorUnavailableError, GetTimeoutError
from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_prefix.errors import EngineLost, RunStopped
from openrlhf_prefix.runtime import deadlines
from openrlhf_prefix.runtime.controller import engines
from openrlhf_prefix.runtime.controller.engines import Engines
from openrlhf_prefix.runtime.engine.turns import Turn


class Answer:
    """What a call returns: a value, an exception to raise, or None while the engine works on it."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Engine:
    """One Ray actor: `error` is what every call of a dead one raises, `birth` changes when it is made anew."""

    def __init__(self, number: int, events: list) -> None:
        self.number, self.events = number, events
        self.birth, self.error, self.comes_back = 0, None, True
        self.open: list[Answer] = []

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *call: self._call(method, *call))

    def _call(self, method: str, *call: Any) -> Answer:
        if method != "ping":
            self.events.append((method, self.number, *call[:3] * (method == "generate_group")))
        if self.error and method == "ping" and self.comes_back:  # Ray brings it back after one refusal
            error, self.error, self.birth = self.error, None, self.birth + 1
            return Answer(error)
        if self.error:
            return Answer(self.error)
        if method != "generate_group":
            return Answer({"ping": str(self.birth), "get_num_unfinished_requests": 0}.get(method, 0))
        self.open.append(Answer(None))
        return self.open[-1]

    def die(self, error: Exception) -> None:
        self.error = error
        for answer in self.open:
            answer.value = answer.value or error
        self.open = []


class FakeRay:
    def get(self, reference: Any, timeout: float | None = None) -> Any:
        if isinstance(reference, list):
            return [self.get(entry) for entry in reference]
        if reference.value is None:
            raise GetTimeoutError("not yet")
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def wait(self, references: list, num_returns: int, timeout: float) -> tuple[list, list]:
        ready = [reference for reference in references if reference.value is not None]
        return ready, [reference for reference in references if reference.value is None]

    def kill(self, handle: Engine, no_restart: bool) -> None:
        assert no_restart is False
        handle.events.append(("kill", handle.number))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two engines, what was done to them, and the controller's side of them."""
    events: list = []
    monkeypatch.setattr(engines, "ray", FakeRay())
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.0)
    pair = [Engine(number, events) for number in range(2)]
    args = SimpleNamespace(reward=None, verifier=None)
    ours = Engines(pair, args, {}, lambda generating: events.append(("rejoin", generating)), lambda: None)
    ours.connect()
    ours.connect()
    assert events == [("configure", 0), ("configure", 1)]
    events.clear()
    return SimpleNamespace(events=events, pair=pair, engines=ours)


GONE = ActorUnavailableError("gone", None)


@pytest.mark.parametrize(("error", "killed"), [(GONE, []), (EngineDeadError(), [("kill", 0)])])
def test_what_a_dead_engine_had_not_answered_is_asked_again_after_it_has_the_weights(world, error, killed) -> None:
    """Of three groups the first was answered; engine 1 goes on with its own. vLLM's process may die without its
    actor, which is then killed so that Ray makes both anew."""
    groups = [(0, ["a"], "params"), (1, ["d"], "params"), (0, ["b"], "params"), (0, ["c"], "others")]
    first, other, second, third = world.engines.submit(groups, 64)
    turns = [event[2] for event in world.events]
    assert len({turn.batch for turn in turns}) == 1
    assert [turn[1:] for turn in turns] == [(0, 3), (0, 1), (1, 3), (2, 3)] and len(
        {turn.batch for turn in turns}
    ) == 1
    first.value = ["row of a"]
    world.pair[0].die(error)
    world.events.clear()
    world.pair[1].open[0].value = ["row of d"]
    for answer in (first, other):
        assert world.engines.get(answer) == [f"row of {'a' if answer is first else 'd'}"]
    assert world.events == []

    answers = iter(["row of b", "row of c"])
    waited = world.engines.wait

    def answering(*arguments: Any) -> Any:
        """The new engine answers while the controller waits."""
        for answer in world.pair[0].open:
            answer.value = answer.value or [next(answers)]
        return waited(*arguments)

    world.engines.wait = answering
    assert world.engines.get(second) == ["row of b"] and world.engines.get(third) == ["row of c"]
    alone = Turn(turns[0].batch, 0, 1)  # "a" will not come again to make the three complete
    again = [("generate_group", 0, alone, ["b"], "params"), ("generate_group", 0, alone, ["c"], "others")]
    assert world.events == [*killed, ("configure", 0), ("rejoin", True), *again]
    assert world.engines.deaths == 1


def test_before_a_sync_dead_engines_are_replaced_without_a_sync_of_their_own(world) -> None:
    world.pair[1].die(GONE)
    assert world.engines.revive() == {1}
    assert world.events == [("configure", 1), ("rejoin", False)]
    assert world.engines.revive() == set()


def test_an_engine_that_was_made_anew_before_anyone_looked_is_noticed(world) -> None:
    """It answers, but it holds the weights that training started from."""
    world.pair[0].birth += 1
    assert world.engines.revive() == {0} and ("rejoin", False) in world.events


def test_a_second_death_in_one_step_ends_the_run_and_one_in_the_next_does_not(world) -> None:
    world.pair[0].die(GONE)
    world.engines.revive()
    world.engines.deaths = 0  # the controller, after a step
    world.pair[0].die(GONE)
    world.engines.revive()
    world.pair[1].die(GONE)
    with pytest.raises(EngineLost, match="2 engines died within one step"):
        world.engines.revive()


def test_an_error_that_is_no_death_is_raised(world) -> None:
    (answer,) = world.engines.submit([(0, ["a"], "params")], 64)
    answer.value = ValueError("a fault of ours")
    with pytest.raises(ValueError, match="a fault of ours"):
        world.engines.get(answer)


def test_engines_that_say_nothing_end_the_run_with_their_numbers(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deadlines.VARIABLE, "0.01")
    answers = world.engines.submit([(1, ["a"], "params"), (1, ["b"], "params")], 64)
    with pytest.raises(RunStopped, match="no answer from engine 1 for 0 s"):
        world.engines.wait(answers, 1, 10.0)
