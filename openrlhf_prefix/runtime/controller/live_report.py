"""report.html of a run that goes on: made by a process of its own, which no step waits for.

`openrlhf-prefix report` reads the run folder and writes the page; it runs below the controller at low priority, one at
a time and at most every --run.report_seconds, less often where the folder is large. That it fails is said, once for
each reason, and ends nothing.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openrlhf_prefix

PATIENCE = 20  # times the seconds that the last page took a core, until the next
LAST_SECONDS = 60.0  # that the end of a run waits for its last page


class LiveReport:
    """`refresh` after a step or an evaluation, `finish` at the end; both return a sentence where the page failed.

    Args:
        folder: of the run.
        seconds: from one page to the next at the least; 0 makes none.
    """

    def __init__(self, folder: str | Path, seconds: float) -> None:
        self.folder, self.seconds, self.failed = folder, seconds, 0
        self.process: subprocess.Popen | None = None
        self.said: set[str] = set()
        self.due = self.begun = 0.0  # time.monotonic()
        self.spent = 0.0  # seconds of a core, by all children of this process when the page was begun
        self.output = tempfile.TemporaryFile()  # noqa: SIM115, as long as the run

    def refresh(self) -> str | None:
        """Starts a new page where one is due and none is being made."""
        if not self.seconds:
            return None
        if self.process and self.process.poll() is None:
            return None
        said = self._outcome()
        if time.monotonic() >= self.due:
            said = self._start() or said
        return said

    def finish(self) -> str | None:
        """The page of the whole run, waited for."""
        if not self.seconds:
            return None
        said = self._wait() or self._outcome()
        return self._start() or self._wait() or self._outcome() or said

    def _start(self) -> str | None:
        self.begun, self.spent = time.monotonic(), of_children()
        self.due = self.begun + self.seconds
        self.output.seek(0)
        self.output.truncate()
        path = os.pathsep.join([str(Path(openrlhf_prefix.__file__).parents[1]), *filter(None, sys.path)])
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openrlhf_prefix.report.command", str(self.folder)],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.output,
            )
        except OSError as error:
            return self._say(str(error))
        return None

    def _wait(self) -> str | None:
        try:
            if self.process:
                self.process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.process = None
            return self._say(f"it took more than {LAST_SECONDS:g} s")
        return None

    def _outcome(self) -> str | None:
        """Of the process that ended last."""
        ended, self.process = self.process, None
        if ended is None:
            return None
        self.due = self.begun + max(self.seconds, PATIENCE * (of_children() - self.spent))
        if ended.returncode == 0:
            return None
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").strip().splitlines()
        return self._say(lines[-1] if lines else f"it ended with code {ended.returncode}")

    def _say(self, reason: str) -> str | None:
        self.failed += 1
        if reason in self.said:
            return None
        self.said.add(reason)
        return f"warning: report.html was not made ({reason}); openrlhf-prefix report {self.folder} makes it later"


def of_children() -> float:
    """Seconds of a core that this process's children took, those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
