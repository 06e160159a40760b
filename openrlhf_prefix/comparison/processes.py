"""Commands as processes of their own, which can be ended together with all that they started."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

COMMAND = (sys.executable, "-m", "openrlhf_prefix.cli")
GRACE = 20.0  # seconds between a request to end and the end


class CommandFailed(Exception):
    """A command ended otherwise than well; the message says how, in one line."""


class Processes:
    """Runs verbs of the command line, from several threads; `stop` ends them all, and none starts after it.

    Args:
        at_once: how many there will be at a time. They share the cores, unless OMP_NUM_THREADS says otherwise: threads
            that outnumber the cores wait for each other, ten times as long as they compute.
    """

    def __init__(self, at_once: int = 1) -> None:
        threads = max(1, (os.cpu_count() or 1) // at_once)
        self._environment = {"OMP_NUM_THREADS": str(threads), **os.environ} if at_once > 1 else None
        self._live: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, arguments: Sequence[str], log: Path, seconds: float) -> None:
        """One command to its end, what it prints added to `log`. Raises CommandFailed."""
        with log.open("ab") as output:
            start = output.tell()
            process = self._start(arguments, output)
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"{arguments[0]} took more than {seconds / 60:g} minutes; see {log}") from None
            finally:
                _end(process)
                with self._lock:
                    self._live.discard(process)
        if code:
            said = log.read_bytes()[start:].decode(errors="replace")
            raise CommandFailed(f"{arguments[0]} ended with exit code {code}: {_reason(said)}; see {log}")

    def _start(self, arguments: Sequence[str], output: object) -> subprocess.Popen:
        with self._lock:
            if self._stopped:
                raise CommandFailed("the comparison was stopped")
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,  # a group of its own, so that its children end with it
            )
            self._live.add(process)
            return process

    def stop(self) -> None:
        with self._lock:
            self._stopped, live = True, list(self._live)
        for process in live:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """The process and its group: asked to end, then made to."""
    for wish in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            try:
                os.killpg(process.pid, wish)
                process.wait(timeout=GRACE)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _reason(said: str) -> str:
    """The line with which the command line ends a mistake, or the last one there is."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("openrlhf-prefix: ")]
    return (ours or lines or ["it said nothing"])[-1].removeprefix("openrlhf-prefix: ")
