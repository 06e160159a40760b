"""From the controller, which runs in a Ray worker, to the terminal of the driver.

The controller puts lines on a board (a small Ray actor); a thread of the driver takes them off and shows them above a
progress bar. Ray's own log forwarding would mix them with everything that the engines and the trainers print.
"""

import sys
import threading
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from tqdm import tqdm

POLL_SECONDS = 0.3
FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} {elapsed}"


@ray.remote(num_cpus=0)
class Board:
    """Lines that were not shown yet, (text, steps done, steps in all), and what the controller is at."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []
        self.reason: str | None = None
        self.watched = False
        self.begins("start")

    def stop(self, reason: str) -> bool:
        """Asks the controller to save and stop, see stopping.py; returns whether it has ever looked for that."""
        self.reason = reason
        return self.watched

    def stop_reason(self) -> str | None:
        self.watched = True
        return self.reason

    def begins(self, phase: str) -> None:
        """The controller starts to wait, in the function `phase`."""
        self.phase, self.heard = phase, time.monotonic()

    def last_sign(self) -> tuple[str, float]:
        """The last phase that began, and how many seconds ago."""
        return self.phase, time.monotonic() - self.heard

    def put(self, text: str, done: int, total: int) -> None:
        self.lines.append((text, done, total))

    def take(self) -> list[tuple[str, int, int]]:
        taken, self.lines = self.lines, []
        return taken


class Display:
    """Context manager in the driver that shows what arrives on the board."""

    def __init__(self, board: Any) -> None:
        self.board = board
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.screen = sys.stdout  # stays ours while launch.py sends upstream's prints to a file
        self.bar = tqdm(unit="step", dynamic_ncols=True, disable=None, bar_format=FORMAT)

    def __enter__(self) -> "Display":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join(timeout=10)
        self.bar.close()

    def _follow(self) -> None:
        with suppress(RayActorError):  # the driver says who died
            while not self.done.wait(POLL_SECONDS):
                with suppress(GetTimeoutError):  # a busy machine: the lines wait on the board
                    self._show()
            self._show()

    def _show(self) -> None:
        for text, done, total in ray.get(self.board.take.remote(), timeout=60):
            self.bar.total, self.bar.n = total, done
            self.bar.write(text, file=self.screen)
            self.screen.flush()
            self.bar.refresh()
