"""No wait without a deadline: a hang ends in a line that says what was waited for, and who did not answer.

OpenRLHF calls ray.get without a time-out everywhere. In its modules below, and in ours, the name `ray` becomes a
stand-in whose `get` waits for --run.phase_seconds at the most and then raises RunStopped with the calling function
(the phase) and the places of the missing answers in the list (the ranks or engines). All else of `ray` is passed on.

One wait has no deadline: the driver's for the controller, which ends with the run; one that dies ends the wait.
"""

import importlib
import os
import sys
from typing import Any

from openrlhf_prefix.errors import RunStopped

VARIABLE = "OPENRLHF_PREFIX_PHASE_SECONDS"
DEFAULT_SECONDS = 3600.0
DRIVER = "openrlhf.cli.train_ppo_ray"
MODULES = (
    DRIVER,
    "openrlhf.trainer.ppo_trainer",
    "openrlhf.trainer.ppo_utils.experience_maker",
    "openrlhf.trainer.ppo_utils.samples_generator",
    "openrlhf.trainer.ray.launcher",
    "openrlhf.trainer.ray.ppo_actor",
    "openrlhf.trainer.ray.vllm_engine",
    "openrlhf_prefix.runtime.doctor_controller",
    "openrlhf_prefix.runtime.engines",
    "openrlhf_prefix.runtime.resumable",
    "openrlhf_prefix.runtime.supervised",
    "openrlhf_prefix.runtime.trainer",
)


class RayWithDeadlines:
    """`ray` for one upstream module."""

    def __init__(self, seconds: float, one_is_endless: bool = False) -> None:
        import ray  # not above: the driver names VARIABLE before it starts Ray

        self.ray, self.seconds, self.one_is_endless = ray, seconds, one_is_endless

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ray, name)

    def get(self, refs: Any, *, timeout: float | None = None) -> Any:
        """ray.get. Raises RunStopped where an answer is missing after `seconds`."""
        endless = self.one_is_endless and not isinstance(refs, list)
        if timeout is not None or endless:
            return self.ray.get(refs, timeout=timeout)
        try:
            return self.ray.get(refs, timeout=self.seconds)
        except self.ray.exceptions.GetTimeoutError:
            phase = sys._getframe(1).f_code.co_name  # noqa: SLF001, the calling function of upstream
            raise RunStopped(f"{phase}: {self._missing(refs)}") from None

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


def install() -> None:
    """Puts the stand-in into the modules that this process has loaded."""
    seconds = phase_seconds()
    for name in MODULES:
        if name in sys.modules:
            importlib.import_module(name).ray = RayWithDeadlines(seconds, one_is_endless=name == DRIVER)
