"""vLLM's processes must not outlive the Ray actor that started them: they would keep the GPU from the next one."""

import contextlib
import os
import signal
import threading
import time

import psutil

POLL_SECONDS = 1.0


class DiesWithActor:
    """Part of the vLLM worker extensions: runs inside every worker of an engine."""

    def die_with_actor(self, pid: int) -> None:
        """From now on this process ends when the actor `pid` is gone, and so does vLLM's engine process between them.

        A worker that does not descend from the actor is one of Ray's, which looks after its own.
        """
        between: list[psutil.Process] = []
        for ancestor in psutil.Process().parents():
            if ancestor.pid == pid:
                threading.Thread(target=_watch, args=(ancestor, between), daemon=True).start()
                return
            between.append(ancestor)


def _watch(actor: psutil.Process, between: list[psutil.Process]) -> None:
    while actor.is_running() and actor.status() != psutil.STATUS_ZOMBIE:
        time.sleep(POLL_SECONDS)
    for process in between:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
