"""Two ranks and two engines; a running cluster; a submitted job; the other preset; secrets."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    offline = {"WANDB_MODE": "offline", "WANDB_DIR": str(log.parent)}
    with log.open("w") as output:
        head = subprocess.Popen(start, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **offline})
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert head.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        yield {"gcs": f"127.0.0.1:{port}", "jobs": f"http://127.0.0.1:{dashboard}", "wandb": log.parent}
    finally:
        head.terminate()  # ends what it started; `ray stop` would end every Ray of this machine
        head.wait(timeout=60)


PLANTED = {"wandb": "c0ffee" * 6 + "beef", "judge": "hunter2hunter2"}


@pytest.fixture
def judge():
    """A reward server that wants a key and fails for one response in four; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == f"/?key={PLANTED['judge']}" and self.headers["Authorization"]
            text = json.loads(body)["responses"][0]
            self.send_response(200 if known and zlib.crc32(text.encode()) % 4 else 500)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"rewards": [0.5]}')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def test_no_secret_reaches_the_run_folder_the_output_or_ray(cluster, judge, embedded, tmp_path):
    """A W&B key on the command line, and a token in the URL of a reward server that fails now and then."""
    folder = tmp_path / "run"
    flags = ["--data.max_samples", 16, "--eval.dataset", "", "--ckpt.save_steps", 1, "--reward.error_limit", 0.9]
    flags += ["--reward.remote_url", f"http://me:$JUDGE_KEY@127.0.0.1:{judge}/?key=$JUDGE_KEY"]
    secrets = ["--logger.wandb.key", PLANTED["wandb"]]
    done = Trained(
        run(*quickstart(folder, *flags, *secrets), env={"RAY_ADDRESS": cluster["gcs"], "JUDGE_KEY": PLANTED["judge"]}),
        folder,
    )
    assert done.code == 0, done.output
    failures = (folder / "reward_failures.jsonl").read_text()
    assert f"http://127.0.0.1:{judge}/?..." in failures and 0 < done.metrics()[0]["reward/failed"] < 128
    assert list(cluster["wandb"].rglob("*.wandb")), "W&B took the key"
    shown = {"output": done.output.encode()}
    for path in [*folder.rglob("*"), *cluster["wandb"].rglob("*")]:
        if path.is_file():
            shown[str(path)] = path.read_bytes()
    for what in ("api/jobs/", "api/v0/actors?detail=1", "api/v0/tasks?detail=1", "api/v0/workers?detail=1"):
        with urllib.request.urlopen(f"{cluster['jobs']}/{what}") as answer:
            shown[what] = answer.read()
    assert str(folder).encode() in shown["api/jobs/"]
    told = [(where, name) for where, text in shown.items() for name, key in PLANTED.items() if key.encode() in text]
    assert told == []


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
