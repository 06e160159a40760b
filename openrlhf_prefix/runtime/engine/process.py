"""vLLM's processes must not outlive the Ray actor that started them: they would keep the GPU from the next one.

    actor -> vLLM's engine process -> its workers

An engine of one GPU computes in the engine process. The workers of an engine of several GPUs are Ray's: they belong to
the engine process, and Ray ends them with it. So what an actor has started ends with it: a process in a session of its
own looks at the actor, which a SIGKILL leaves no time for anything, and kills the others once it is gone.
"""

import contextlib
import os
import subprocess
import sys
import time

import psutil

POLL_SECONDS = 1.0


def watch_children() -> None:
    """From now on what this process has started so far, and what came of that, ends when this process is gone."""
    if children := [str(child.pid) for child in psutil.Process().children(recursive=True)]:
        # As a file: the package, and PyTorch with it, has no part in this.
        command = [sys.executable, "-I", __file__, str(os.getpid()), *children]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.run(command, start_new_session=True, check=True, **streams)


def _watch(actor: int, children: list[int]) -> None:
    known = [psutil.Process(pid) for pid in children if psutil.pid_exists(pid)]
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(actor)
        if os.fork():  # Ray kills the children of an actor that ends, and this is to be none
            os._exit(0)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(POLL_SECONDS)
    for child in known:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


if __name__ == "__main__":
    pids = [int(pid) for pid in sys.argv[1:]]
    _watch(pids[0], pids[1:])
