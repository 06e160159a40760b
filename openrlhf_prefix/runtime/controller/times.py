"""Seconds of the phases of a step, and of a run over all its starts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Times:
    """Example: `with times("broadcast"): ...` puts "timing/broadcast" into times.spent."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.time()
        yield
        self.spent[f"timing/{phase}"] = time.time() - started


class Clock:
    """Seconds of a run as a Stateful: those up to the checkpoint that it goes on from, and those since this start.

    What a kill took, and the start of engines and trainers, is in neither.
    """

    def __init__(self) -> None:
        self.before, self.first_step = 0.0, 0  # at this start
        self.begin()

    def begin(self) -> None:
        self.started = time.time()

    def summary(self, step: int) -> dict[str, Any]:
        """Steps and seconds of the whole run, and of this start alone."""
        here = time.time() - self.started
        return {
            "steps": step,
            "seconds": round(self.before + here, 1),
            "this_start": {"steps": step - self.first_step, "seconds": round(here, 1)},
        }

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.before + time.time() - self.started}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.before = state["seconds"]
