"""A stand-in for vLLM: actor -> engine process -> worker, of which the actor alone runs our code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")

import ray

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


OF_RAY = """
import os, sys, time
import ray
ray.init(address=sys.argv[1])

@ray.remote(num_cpus=0)
class Worker:
    def pid(self):
        return os.getpid()

worker = Worker.remote()
open(sys.argv[2] + ".new", "w").write(str(ray.get(worker.pid.remote())))
os.rename(sys.argv[2] + ".new", sys.argv[2])
time.sleep(600)
"""


class Actor:
    """Of an engine of several GPUs: its engine process is a driver of Ray, and the workers are actors of that."""

    def start(self, file: str) -> int:
        from openrlhf_prefix.runtime.engine.process import watch_children

        address = ray.get_runtime_context().gcs_address
        self.engine = subprocess.Popen([sys.executable, "-W", "ignore", "-c", OF_RAY, address, file])
        wait_until(lambda: os.path.exists(file), 60.0)
        watch_children()
        return os.getpid()


def test_rays_workers_of_an_engine_end_with_its_actor(tmp_path: Path) -> None:
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    options = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", runtime_env={"env_vars": {"PYTHONPATH": folders}}, **options)
    try:
        actor = ray.remote(num_cpus=0)(Actor).remote()
        pid = ray.get(actor.start.remote(str(tmp_path / "pid")), timeout=90)
        worker = psutil.Process(int((tmp_path / "pid").read_text()))
        engines = psutil.Process(pid).children()
        assert engines and alive(worker) and worker not in psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, [worker, *engines])), 60.0)
    finally:
        ray.shutdown()
