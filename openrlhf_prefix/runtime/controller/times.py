"""Seconds of the phases of a step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Times:
    """Example: `with times("broadcast"): ...` puts "timing/broadcast" into times.spent."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.time()
        yield
        self.spent[f"timing/{phase}"] = time.time() - started
