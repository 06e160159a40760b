"""What a SIGTERM and a Ctrl-C to the driver do: a run saves first, and only a second Ctrl-C ends it at once.

    signal -> driver -> board -> controller, which looks there after every step and while it waits for rollouts

Before the controller looks for the first time there is nothing to save, and Ctrl-C is Python's KeyboardInterrupt.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayActorError

from openrlhf_prefix.errors import INTERRUPTED, RunInterrupted
from openrlhf_prefix.runtime.controller.stopping import CTRL_C, SIGTERM


class Signals:
    """Takes signals in the driver while a run is under way; written for signal handlers, which may not wait."""

    def __init__(self, board: Any) -> None:
        self.board, self.asked = board, SimpleQueue()
        self.pressed = self.too_early = False
        threading.Thread(target=self._forward, daemon=True).start()

    def terminate(self, number: int, frame: FrameType | None) -> None:
        self.asked.put(SIGTERM)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.too_early:
            raise KeyboardInterrupt
        if self.pressed:  # Ray's processes of this machine end with this one, a cluster's with its job
            _say("ended at once; the same command with --ckpt.load_enable goes on after the last save")
            os._exit(INTERRUPTED)
        self.pressed = True
        _say("Ctrl-C: the last finished step is saved before the end; once more ends at once")
        self.asked.put(CTRL_C)

    def close(self) -> None:
        self.asked.put(None)

    def _forward(self) -> None:
        """Asking the board waits for its answer, which a handler in the main thread must not."""
        while (reason := self.asked.get()) is not None:
            with suppress(RayActorError):  # the signal went to all processes: nothing can be saved
                heard = ray.get(self.board.stop.remote(reason))
                if reason == CTRL_C and not heard:
                    self.too_early = True
                    os.kill(os.getpid(), signal.SIGINT)


def _say(text: str) -> None:
    """Past Python's buffers, which the handler may have come in the middle of."""
    with suppress(OSError):  # nobody reads it any more
        os.write(sys.__stderr__.fileno(), f"\nopenrlhf-prefix: {text}\n".encode())


@contextmanager
def signals_to(board: Any) -> Iterator[None]:
    """While the block runs, SIGTERM and Ctrl-C are written on the board and nothing else happens.

    Raises:
        KeyboardInterrupt: at once, where one was lost on the way here (cli.Insistent).
    """
    if getattr(signal.getsignal(signal.SIGINT), "pressed", False):
        raise KeyboardInterrupt
    taken = Signals(board)
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, taken.terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, taken.interrupt),
    }
    try:
        yield
    except KeyboardInterrupt:
        raise RunInterrupted("Ctrl-C arrived; nothing is saved: the first step had not begun") from None
    finally:
        taken.close()
        for number, handler in before.items():
            signal.signal(number, handler)
