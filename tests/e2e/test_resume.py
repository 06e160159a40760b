"""A run killed after a checkpoint goes on at the next step, with the same prefixes as if nothing had happened."""

import os
import signal
import subprocess
import time

from conftest import ROOT, SECONDS, Trained, command, quickstart, run


def test_a_killed_run_resumes_at_the_next_step_with_the_same_schedule_position(trained, embedded, tmp_path):
    folder = tmp_path / "killed"
    flags = quickstart(folder, "--ckpt.save_steps", 4, "--run.rollout_groups", -1)
    started = subprocess.Popen(
        command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        wait_for(folder / "checkpoints" / "_actor" / "global_step4" / "metric.json", started)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    resumed = Trained(run(*flags, "--ckpt.load_enable"), folder)
    assert resumed.code == 0, resumed.output
    assert "resumed after step 4" in resumed.output
    assert [row["step"] for row in resumed.metrics()] == [1, 2, 3, 4, 5, 6, 7, 8]
    for after, uninterrupted in zip(resumed.metrics()[4:], trained.metrics()[4:], strict=True):
        for key in ("prefix/low", "prefix/ratio", "prefix/length", "prefix/rows"):
            assert after[key] == uninterrupted[key]
    assert drawn(resumed) == drawn(trained)


def drawn(run_: Trained) -> list[tuple]:
    """Which prefix every prefixed row of the run started from."""
    return [(row["step"], row["problem"], row["prefix"]) for row in run_.rollouts() if row["prefix_length"]]


def wait_for(path, process) -> None:
    deadline = time.time() + SECONDS
    while not path.exists():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.time() < deadline, f"{path} did not appear within {SECONDS} s"
        time.sleep(0.2)


def test_a_resume_without_a_checkpoint_is_refused(embedded, tmp_path):
    refused = run(*quickstart(tmp_path / "nothing", "--ckpt.load_enable"))
    assert refused.returncode == 2 and "holds no checkpoint" in refused.stdout
