"""The groups of a batch reach vLLM in their order, and it starts on them when it has them all."""

import asyncio
from itertools import permutations

import pytest

pytest.importorskip("vllm")

from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_prefix.runtime.engine import turns
from openrlhf_prefix.runtime.engine.turns import Turn, Turns


class Recorder:
    """An engine actor and its vLLM: notes what is asked for, and ends all rows when it is resumed."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.llm, self.turns = self, Turns(self)
        self.open, self.dead = 0, False
        self.broken = ""

    def get_num_unfinished_requests(self) -> int:
        return self.open

    async def pause_generation(self, mode: str, clear_cache: bool) -> None:
        self.events.append(f"pause {mode} {clear_cache}")
        self._refuse("pause")
        await self._answer()

    async def resume_generation(self) -> None:
        self.events.append("resume")
        self._refuse("resume")
        await self._answer()
        self.open = 0

    def _refuse(self, call: str) -> None:
        if call == self.broken:
            raise RuntimeError(f"no {call} here")

    async def _answer(self) -> None:
        if self.dead:  # as vLLM: the answer of a dead process never comes
            await asyncio.get_running_loop().create_future()

    async def check_health(self) -> None:
        if self.dead:
            raise EngineDeadError

    async def group(self, turn: Turn, rows: list[str]) -> None:
        started = await self.turns.come(turn, len(rows))
        found = asyncio.gather(*[self.row(row) for row in rows], return_exceptions=True)
        await asyncio.gather(started, found)

    async def row(self, row: str) -> None:
        with self.turns.refusals():
            await asyncio.sleep(0)  # vLLM prepares a request on its way
            self.events.append(row)
            if self.dead or row == "too long":
                raise ValueError(row)
            self.open += 1


def asked(engine: Recorder, *groups: tuple[Turn, list[str]]) -> list[str]:
    async def ask() -> None:
        await asyncio.gather(*[engine.group(*group) for group in groups])
        await asyncio.gather(*engine.turns._starting)

    asyncio.run(asyncio.wait_for(ask(), 10))
    return engine.events


GROUPS = [(Turn("x", 0, 3), ["a0", "a1"]), (Turn("x", 1, 3), []), (Turn("x", 2, 3), ["c0"])]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_they_start_together_whatever_the_order_of_their_arrival(order: tuple[int, ...]) -> None:
    """The second group is made of whole demonstrations: nothing to continue."""
    events = asked(Recorder(), *[GROUPS[place] for place in order])
    assert events == ["pause keep False", "a0", "a1", "c0", "resume"]


def test_a_row_that_vllm_refuses_is_not_waited_for() -> None:
    events = asked(Recorder(), (Turn("x", 1, 2), ["b"]), (Turn("x", 0, 2), ["too long"]))
    assert events == ["pause keep False", "too long", "b", "resume"]


def test_a_group_alone_waits_for_nobody_and_an_engine_at_work_is_not_held_up() -> None:
    engine = Recorder()
    assert asked(engine, (Turn("x", 0, 1), ["a"])) == ["a"] and engine.open == 1
    assert asked(engine, (Turn("y", 1, 2), ["c"]), (Turn("y", 0, 2), ["b"])) == ["a", "b", "c"]


def test_the_groups_of_a_dead_engine_are_let_go_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "HEALTH_SECONDS", 0.01)
    engine = Recorder()
    engine.dead = True
    assert asked(engine, *GROUPS) == ["pause keep False", "a0", "a1", "c0", "resume"]


@pytest.mark.parametrize("call", ["pause", "resume"])
def test_what_keeps_vllm_from_starting_reaches_every_group(call: str) -> None:
    """Groups would wait for ever: for the others' start, or for rows of an engine that stays paused."""
    engine = Recorder()
    engine.broken = call

    async def ask() -> list:
        return await asyncio.gather(*[engine.group(*group) for group in GROUPS], return_exceptions=True)

    found = asyncio.run(asyncio.wait_for(ask(), 10))
    assert [str(error) for error in found] == [f"no {call} here"] * 3
