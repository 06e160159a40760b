"""A stand-in for vLLM: actor -> engine process -> worker, of which the worker alone runs our code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

WORKER = """
import os, sys, time
from openrlhf_prefix.runtime.engine.process import DiesWithActor
DiesWithActor().die_with_actor(int(sys.argv[1]))
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(600)
"""
CHAIN = """
import os, subprocess, sys, time
level, worker, actor, file = sys.argv[1:]
actor = actor or str(os.getpid())
command = [sys.executable, "-c", worker, actor, file] if level == "engine" else [
    sys.executable, __file__, "engine", worker, actor, file]
subprocess.Popen(command)
time.sleep(600)
"""


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.1)


def test_worker_and_engine_process_end_with_their_actor(tmp_path: Path) -> None:
    script, file = tmp_path / "chain.py", tmp_path / "pid"
    script.write_text(CHAIN)
    actor = subprocess.Popen([sys.executable, script, "actor", WORKER, "", file])
    wait_until(lambda: file.exists() and file.read_text())
    worker = psutil.Process(int(file.read_text()))
    engine = worker.parent()
    assert engine.ppid() == actor.pid
    time.sleep(2.0)
    assert worker.is_running() and engine.is_running()  # while the actor lives
    actor.send_signal(signal.SIGKILL)
    actor.wait()
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in (worker, engine)))


def test_a_worker_of_another_parent_is_left_alone(tmp_path: Path) -> None:
    """Ray's own workers do not descend from the actor."""
    other = subprocess.Popen([sys.executable, "-c", WORKER, str(os.getpid() + 10**6), tmp_path / "pid"])
    wait_until(lambda: (tmp_path / "pid").exists())
    time.sleep(2.0)
    assert other.poll() is None
    other.kill()
    other.wait()
