"""A wait that upstream leaves without a deadline ends, and says for whom; a failure is not held back by it."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

import ray

from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime import deadlines
from openrlhf_prefix.runtime.platform import adapter


class FakeRay:
    """Answers by name: an object, an exception, or None for a rank that hangs."""

    exceptions = ray.exceptions

    def __init__(self, **answers: object) -> None:
        self.answers = answers

    def get(self, refs: object, timeout: float | None = None) -> object:
        wanted = refs if isinstance(refs, list) else [refs]
        for ref in wanted:  # as Ray does: an error is raised though others are missing
            if isinstance(self.answers[ref], Exception):
                raise self.answers[ref]
        if any(self.answers[ref] is None for ref in wanted):
            assert timeout is not None, "it would hang"  # without a deadline
            raise ray.exceptions.GetTimeoutError()
        return [self.answers[ref] for ref in wanted] if isinstance(refs, list) else self.answers[refs]

    def wait(self, refs: list, num_returns: int, timeout: float, fetch_local: bool) -> tuple[list, list]:
        silent = [ref for ref in refs if self.answers[ref] is None]
        return [ref for ref in refs if ref not in silent], silent


def stand_in(board: object = None, driver: bool = False, **answers: object) -> deadlines.RayWithDeadlines:
    made = deadlines.RayWithDeadlines(7.0, board, driver)
    made.ray = FakeRay(**answers)
    return made


class Clock:
    """time.monotonic() that goes on by ten seconds with every look at the board."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def board_of(clock: Clock, phases: list[tuple[str, float]], told: list[str]) -> SimpleNamespace:
    """A board that answers with `phases` in turn, and notes what it is told; answers are their own references."""

    def last_sign() -> tuple[str, float]:
        clock.now += deadlines.LOOK_SECONDS
        return phases.pop(0)

    return SimpleNamespace(last_sign=SimpleNamespace(remote=last_sign), begins=SimpleNamespace(remote=told.append))


def broadcast_to_vllm(module: deadlines.RayWithDeadlines, refs: list) -> object:
    return module.get(refs)


def test_the_phase_and_the_silent_ranks_are_named():
    module = stand_in(a=1, b=None, c=3, d=None)
    with pytest.raises(RunStopped, match=r"^broadcast_to_vllm: no answer from 1, 3 \(of 4, .* within 7 s"):
        broadcast_to_vllm(module, ["a", "b", "c", "d"])
    assert module.get(["a", "c"]) == [1, 3] and module.get("a") == 1


def test_the_cause_of_a_silence_comes_first():
    """Rank 1 died in a collective, rank 0 waits for it: Ray's own error is raised."""
    with pytest.raises(ray.exceptions.RayActorError):
        stand_in(a=None, b=ray.exceptions.RayActorError()).get(["a", "b"])


def test_the_driver_waits_for_the_controller_while_it_shows_signs_of_life(monkeypatch):
    """10 s later it has begun to train 4 s ago, 10 s later still, 14 s ago; then 24 s: more than 7 + 10."""
    clock = Clock()
    monkeypatch.setattr(deadlines, "time", clock)
    signs = [("generate", 4.0), ("ppo_train", 4.0), ("ppo_train", 14.0), ("ppo_train", 24.0)]
    module = stand_in(board_of(clock, signs, []), driver=True, fit=None, init=None)
    module.ray.answers |= {sign: sign for sign in signs}
    with pytest.raises(RunStopped, match=r"^ppo_train: no sign of the controller for 24 s"):
        module.get("fit")
    assert signs == [] and clock.now == 1040.0
    with pytest.raises(RunStopped, match="no answer from 0 "):
        module.get(["init"])


def test_the_controller_tells_what_it_waits_for():
    told: list[str] = []
    broadcast_to_vllm(stand_in(board_of(Clock(), [], told), a=1), ["a"])
    assert told == ["broadcast_to_vllm"]


def test_a_loaded_module_gets_the_stand_in_and_keeps_the_rest(monkeypatch):
    loaded = SimpleNamespace(ray=ray)
    monkeypatch.setattr(deadlines, "waiting_modules", lambda: {"openrlhf.trainer.ppo_trainer": loaded})
    monkeypatch.setenv(deadlines.VARIABLE, "12.5")
    deadlines.install("board")
    assert loaded.ray.board == "board" and not loaded.ray.driver
    assert loaded.ray.seconds == 12.5 and loaded.ray.put is ray.put and loaded.ray.exceptions is ray.exceptions


ASKS = re.compile(r"^import ray$(?s:.*)\bray\.get\(", re.MULTILINE)


def asking(package: str) -> set[str]:
    """Modules of a package whose source asks Ray for answers, by its name."""
    root = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    return {
        ".".join([package, *path.relative_to(root).with_suffix("").parts])
        for path in root.rglob("*.py")
        if ASKS.search(path.read_text(encoding="utf-8"))
    }


def test_every_module_that_asks_ray_is_found(monkeypatch):
    """Whatever is loaded, without a list; the package of upstream that goes by the same name is left."""
    pytest.importorskip("openrlhf")
    adapter.CpuPlatform().install()
    names = sorted(asking("openrlhf") | asking("openrlhf_prefix"))
    names = [name for name in names if "async" not in name]  # refused, and needs a queue of its own
    modules = {name: importlib.import_module(name) for name in names}
    assert len(names) > 10 and "openrlhf_prefix.runtime.controller.trainer" in names
    for module in modules.values():
        monkeypatch.setattr(module, "ray", ray)
    assert set(names) <= set(deadlines.waiting_modules())
    assert "openrlhf.trainer" not in deadlines.waiting_modules()
    monkeypatch.setattr(modules[deadlines.DRIVER], "ray", deadlines.RayWithDeadlines(1.0))
    assert deadlines.DRIVER in deadlines.waiting_modules(), "a second run of one process"
