"""Two machines (network namespaces with addresses of their own), the shipped script on each, one run over both."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SECONDS, TWO_STEPS, Trained

HEAD, WORKER = "10.77.0.1", "10.77.0.2"
NAMES = ("prefix-head", "prefix-worker")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def remove() -> None:
    for name in NAMES:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two namespaces joined by a cable, `cl0` at both ends; gives the folder of their disks."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    remove()  # what a killed test run left
    try:
        for name in NAMES:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "cl0", "netns", NAMES[0], "type", "veth", "peer", "name", "cl0", "netns", NAMES[1])
        for name, address in zip(NAMES, (HEAD, WORKER), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cl0")
            ip("-n", name, "link", "set", "cl0", "up")
            ip("-n", name, "route", "add", "default", "dev", "cl0")  # by which a process finds its own address
        yield tmp_path_factory.mktemp("disks")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr}")
    finally:
        remove()


def start(disks: Path, rank: int, *flags: object, **changed: str) -> subprocess.Popen:
    """The shipped script as the machine of that rank runs it.

    Each has a /tmp/ray of its own: two nodes that unpack the job's code into one folder take it from under its feet.
    """
    disk = disks / str(rank)
    disk.mkdir(exist_ok=True)
    place = {"NODES": "2", "NODE_RANK": str(rank), "HEAD_ADDRESS": HEAD, "NODE_ADDRESS": (HEAD, WORKER)[rank]}
    place |= {"GPUS_PER_NODE": "1", "JOIN_SECONDS": "90", "GLOO_SOCKET_IFNAME": "cl0"}
    place |= {"VENV": str(Path(sys.executable).parents[1]), "PYTHONPATH": str(ROOT)}
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | place | changed
    mounted = 'mkdir -p /tmp/ray && mount --bind "$0" /tmp/ray && exec bash scripts/train_multi_node.sh "$@"'
    script = ["bash", "-c", mounted, str(disk), *map(str, flags)]
    return subprocess.Popen(
        ["ip", "netns", "exec", NAMES[rank], *script],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate(timeout=60)
        pytest.fail(output)
    return process.returncode, output


def timeless(trained: Trained) -> list[dict]:
    timed = ("timing/", "memory/", "sync/check_seconds")
    return [{key: value for key, value in row.items() if not key.startswith(timed)} for row in trained.metrics()]


def test_the_multi_node_script_trains_over_two_nodes_what_one_node_trains(machines, two_ranks, tmp_path):
    """Two steps of the quickstart with ZeRO-3 over a rank on each node and an engine on each: the metrics of two ranks
    and two engines on one node, to the last digit. Another rope_theta reaches the export."""
    worker, head = (
        start(machines, 1),
        start(machines, 0, *TWO_STEPS, "--actor.num_nodes", 2, "--run.dir", tmp_path / "run"),
    )
    code, output = finish(head, SECONDS)
    assert code == 0, output
    assert "2 of 2 nodes: " in output and f"{HEAD} " in output and f"{WORKER} " in output
    over_two = Trained(subprocess.CompletedProcess([], code, output), tmp_path / "run")
    steps = timeless(over_two)
    assert [row["step"] for row in steps] == [1, 2]
    assert all(row["actor_grad_norm"] > 0 and row["sync/tensors_checked"] > 0 for row in steps)
    assert timeless(two_ranks) == steps and two_ranks.rollouts() == over_two.rollouts()
    exported = json.loads((tmp_path / "run/export/config.json").read_text())
    assert exported["rope_parameters"]["rope_theta"] == 20000.0
    code, left = finish(worker, 30)
    assert code == 0 and "the head is gone, rank 1 leaves" in left


@pytest.mark.long
def test_nodes_that_cannot_work_together_end_the_job_with_code_2(machines, embedded, tmp_path):
    """Before a model loads: no machine has an interface of that name. The code comes back through job and script."""
    flags = ["--config", "configs/quickstart.yaml", "--actor.num_nodes", 2, "--run.dir", tmp_path / "run"]
    worker, head = start(machines, 1), start(machines, 0, *flags, GLOO_SOCKET_IFNAME="bond0")
    code, output = finish(head, SECONDS)
    assert code == 2, output
    for address in (HEAD, WORKER):
        assert f"{address}: GLOO_SOCKET_IFNAME is bond0, and its interfaces are " in output
    assert finish(worker, 30)[0] == 0
