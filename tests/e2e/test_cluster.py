"""Two ranks and two engines; a running cluster; a submitted job; the other preset."""

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SECONDS, Trained, quickstart, run

RAY = Path(sys.executable).with_name("ray")


def test_two_zero3_ranks_and_two_engines_train(two_ranks):
    steps = two_ranks.metrics()
    assert [row["step"] for row in steps] == [1, 2]
    assert all(math.isfinite(row["policy_loss"]) and row["actor_grad_norm"] > 0 for row in steps)
    assert all(row["prefix/rows"] == 16 and row["rollout/num_samples"] == 128 for row in steps)
    assert (two_ranks.folder / "export" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray cluster with one logical GPU, started by hand as an administrator would; gives its addresses."""
    port, dashboard, agent = 26379, 28265, 28365  # every other Ray of this machine wants the usual agent's port
    start = [RAY, "start", "--head", "--block", "--num-cpus", "4", "--num-gpus", "1", "--disable-usage-stats"]
    start += ["--port", str(port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)]
    start += ["--dashboard-agent-listen-port", str(agent)]
    log = tmp_path_factory.mktemp("cluster") / "ray.log"
    with log.open("w") as output:
        head = subprocess.Popen(start, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert head.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        yield {"gcs": f"127.0.0.1:{port}", "jobs": f"http://127.0.0.1:{dashboard}"}
    finally:
        head.terminate()  # ends what it started; `ray stop` would end every Ray of this machine
        head.wait(timeout=60)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_more_gpus_than_the_cluster_has_are_refused(cluster, embedded, tmp_path):
    flags = ["--actor.num_gpus_per_node", 2, "--vllm.num_engines", 2]
    refused = run(*quickstart(tmp_path / "many", *flags), env={"RAY_ADDRESS": cluster["gcs"]})
    assert refused.returncode == 2, refused.stdout
    assert "asks for 2 GPUs, the cluster has 1" in refused.stdout


def submit(command: list[object], tries: int = 6) -> subprocess.CompletedProcess:
    """`ray job submit`; on a slow machine the head answers before its dashboard and agent are ready to take a job."""
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    for _ in range(tries):
        done = subprocess.run(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
        )
        if not any(
            text in done.stdout for text in ("No available agent to submit job", "Failed to connect to Ray at")
        ):
            break
        time.sleep(10)
    return done


def test_a_submitted_job_runs_plain_rft_on_the_running_cluster(cluster, embedded, tmp_path):
    folder = tmp_path / "job"
    flags = quickstart(folder, "--hybrid.preset", "rft", "--data.max_samples", 32, "--eval.steps", -1)
    entry = [sys.executable, "-m", "openrlhf_prefix.cli", *map(str, flags)]
    runtime_env = f'{{"env_vars": {{"PYTHONPATH": "{ROOT}"}}}}'
    command = [RAY, "job", "submit", "--address", cluster["jobs"], "--runtime-env-json", runtime_env, "--", "sh", "-c"]
    submitted = submit([*command, f"cd {ROOT} && {' '.join(entry)}"])
    assert submitted.returncode == 0, submitted.stdout
    steps = Trained(submitted, folder).metrics()
    assert [row["step"] for row in steps] == [1, 2]
    assert all(row["prefix/rows"] == 0 and "reward/prefixed" not in row for row in steps)
