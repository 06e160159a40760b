"""A stand-in for vLLM: actor -> engine process -> worker, of which the actor alone runs our code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SLEEP = "import time; time.sleep(600)"
ENGINE = f"""
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", {SLEEP!r}]) if sys.argv[1] == "below" else None
open(sys.argv[2], "w").write(str(worker.pid if worker else os.getpid()))
time.sleep(600)
"""
ACTOR = f"""
import os, subprocess, sys, time
from openrlhf_prefix.runtime.engine.process import watch_children
subprocess.Popen([sys.executable, "-c", {ENGINE!r}, *sys.argv[1:]])
while not (os.path.exists(sys.argv[2]) and open(sys.argv[2]).read()):
    time.sleep(0.05)
watch_children()
open(sys.argv[2] + ".watched", "w").close()
time.sleep(600)
"""


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.1)


@pytest.fixture
def actor(tmp_path: Path, request: pytest.FixtureRequest):
    """An actor whose engine's worker is below the engine, or elsewhere, as Ray's own are."""
    command = [sys.executable, "-c", ACTOR, request.param, str(tmp_path / "pid")]
    process = subprocess.Popen(command, start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


WORKERS = pytest.mark.parametrize("actor", ["below", "elsewhere"], indirect=True)


@WORKERS
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_engine_process_and_workers_end_with_their_actor(actor: subprocess.Popen, tmp_path: Path, sent: int) -> None:
    """Of an engine of several ranks no worker runs our code below the actor: the engine process must not stay."""
    wait_until((tmp_path / "pid.watched").exists)
    below = psutil.Process(actor.pid).children(recursive=True)
    other = subprocess.Popen([sys.executable, "-c", SLEEP])
    time.sleep(2.0)
    assert below and all(map(alive, below))  # while the actor lives
    actor.send_signal(sent)
    actor.wait()
    wait_until(lambda: not any(map(alive, below)))
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.mark.parametrize("actor", ["below"], indirect=True)
def test_the_watch_is_no_child_that_ray_could_end_with_the_actor(actor: subprocess.Popen, tmp_path: Path) -> None:
    wait_until((tmp_path / "pid.watched").exists)
    (watch,) = [found for found in psutil.process_iter(["cmdline"]) if str(actor.pid) in (found.info["cmdline"] or [])]
    assert watch not in psutil.Process(actor.pid).children(recursive=True)
    assert os.getsid(watch.pid) != os.getsid(actor.pid)
    actor.kill()
    actor.wait()
    wait_until(lambda: not alive(watch))
