"""No wait without a deadline: a hang ends in a line that says what was waited for, and who did not answer.

OpenRLHF calls ray.get without a time-out everywhere. In each of its modules, and in ours, the name `ray` becomes a
stand-in whose `get` waits for --run.phase_seconds at the most and then raises RunStopped with the calling function
(the phase) and the places of the missing answers in the list (the ranks or engines). All else of `ray` is passed on.

The driver waits for the controller as long as that shows signs of life: whenever the controller starts to wait itself,
it tells the board (driver/progress.py) for what.
"""

import os
import sys
import time
from types import ModuleType
from typing import Any

from openrlhf_prefix.errors import RunStopped

VARIABLE = "OPENRLHF_PREFIX_PHASE_SECONDS"
DEFAULT_SECONDS = 3600.0
LOOK_SECONDS = 10.0  # between two looks at the board
DRIVER = "openrlhf.cli.train_ppo_ray"
PACKAGES = ("openrlhf", "openrlhf_prefix")


class RayWithDeadlines:
    """`ray` for one module.

    Args:
        seconds: the deadline.
        board: is told about every wait that begins; None in a process whose waits nobody looks at.
        driver: single answers are the controller's, and are waited for while the board hears from it.
    """

    def __init__(self, seconds: float, board: Any = None, driver: bool = False) -> None:
        import ray  # not above: the driver names VARIABLE before it starts Ray

        self.ray, self.seconds, self.board, self.driver = ray, seconds, board, driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ray, name)

    def get(self, refs: Any, *, timeout: float | None = None) -> Any:
        """ray.get. Raises RunStopped where an answer is missing after `seconds`."""
        if timeout is not None:
            return self.ray.get(refs, timeout=timeout)
        if self.driver and not isinstance(refs, list):
            return self._while_it_lives(refs)
        phase = sys._getframe(1).f_code.co_name  # noqa: SLF001, the calling function
        if self.board is not None:
            self.board.begins.remote(phase)
        try:
            return self.ray.get(refs, timeout=self.seconds)
        except self.ray.exceptions.GetTimeoutError:
            raise RunStopped(f"{phase}: {self._missing(refs)}") from None

    def _while_it_lives(self, ref: Any) -> Any:
        """The controller's answer, however long it takes."""
        heard = time.monotonic()
        while True:
            try:
                return self.ray.get(ref, timeout=LOOK_SECONDS)
            except self.ray.exceptions.GetTimeoutError:
                phase, silent = self.ray.get(self.board.last_sign.remote(), timeout=self.seconds)
            heard = max(heard, time.monotonic() - silent)
            if time.monotonic() - heard > self.seconds + LOOK_SECONDS:
                raise RunStopped(
                    f"{phase}: no sign of the controller for {silent:.0f} s: see the logs of Ray; "
                    "--run.phase_seconds changes the deadline"
                )

    def _missing(self, refs: Any) -> str:
        expected = list(dict.fromkeys(refs if isinstance(refs, list) else [refs]))
        _, pending = self.ray.wait(expected, num_returns=len(expected), timeout=0, fetch_local=False)
        places = ", ".join(str(expected.index(ref)) for ref in pending)
        return (
            f"no answer from {places} (of {len(expected)}, counted from 0) within {self.seconds:.0f} s: see the logs "
            "of Ray for that rank or engine; --run.phase_seconds changes the deadline"
        )


def phase_seconds() -> float:
    """--run.phase_seconds, in every process of a run."""
    return float(os.environ.get(VARIABLE, DEFAULT_SECONDS))


def install(board: Any = None) -> None:
    """Puts the stand-in into the modules that this process has loaded; the driver and the controller give a board."""
    seconds = phase_seconds()
    for name, module in waiting_modules().items():
        module.ray = RayWithDeadlines(seconds, board, driver=name == DRIVER)


def waiting_modules() -> dict[str, ModuleType]:
    """Loaded modules of OpenRLHF and of ours in which `ray` is Ray, or a stand-in of an earlier install();
    in the package openrlhf.trainer it is a package of OpenRLHF's own."""
    import ray

    return {
        name: module
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] in PACKAGES
        and (vars(module).get("ray") is ray or isinstance(vars(module).get("ray"), RayWithDeadlines))
    }
