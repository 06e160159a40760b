"""A run that is told to stop saves first: on SIGTERM, on Ctrl-C, and before the time limit of its job.

    driver       signal -> the board, see driver/signals.py
    controller   looks at the board and at the clock after every step, and while it waits for rollouts

During a rollout the weights are those of the last finished step, so that a checkpoint of it can be written at once;
an optimizer step that has begun is finished first.
"""

import time
from types import SimpleNamespace

import ray

from openrlhf_prefix.checkpoint.timing import must_stop
from openrlhf_prefix.errors import RunInterrupted, RunPaused
from openrlhf_prefix.runtime.context import RunContext

SIGTERM, CTRL_C = "SIGTERM", "Ctrl-C"


class Stopping:
    """In the controller.

    Args:
        flags: ckpt.{time_limit, save_before}.
        context: of the run.
    """

    def __init__(self, flags: SimpleNamespace, context: RunContext) -> None:
        self.limit, self.before = flags.time_limit, flags.save_before
        self.board, self.started = context.board, context.started
        self.longest, self.last = 0.0, None  # seconds of the longest step, and when the last one ended

    def check(self) -> None:
        """Raises RunPaused when the run has been told to stop or its time is up."""
        if reason := ray.get(self.board.stop_reason.remote()):
            raise (RunInterrupted if reason == CTRL_C else RunPaused)(f"{reason} arrived")
        self._check_clock(0.0)

    def step_done(self) -> None:
        """The same, and when one more step would take too long."""
        now = time.time()
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        self.check()
        self._check_clock(self.longest)

    def _check_clock(self, step: float) -> None:
        elapsed = time.time() - self.started
        if must_stop(elapsed, step, self.limit, self.before):
            raise RunPaused(f"{elapsed:.0f} s of --ckpt.time_limit {self.limit:.0f} are over")
