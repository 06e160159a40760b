"""A reward that fails now and then is counted and the run goes on; one that fails often stops it, and it says why."""

import pytest
from conftest import Trained, quickstart, run

REWARD = """
import time
from pathlib import Path

LOG = Path(__file__).with_name("fates.log")
RAISES, HANGS = {raises}, {hangs}  # every how many calls; 0 never


def reward_func(queries, prompts, labels, responses):
    calls = len(LOG.read_text().split()) if LOG.exists() else 0
    kind = "hang" if HANGS and calls % HANGS == 50 else "raise" if calls % RAISES == 3 else "score"
    with LOG.open("a") as log:
        log.write(kind + "\\n")
    if kind == "raise":
        raise ValueError("the judge is out for lunch")
    if kind == "hang":
        time.sleep(1000)
    return {{"rewards": float("boxed{{" + labels[0] + "}}" in responses[0]), "extra_logs": {{"seen": 1.0}}}}
"""
# Two steps of 128 rows, and 32 held-out answers before and after.
FLAGS = ("--data.max_samples", 32, "--eval.n_samples_per_prompt", 1, "--ckpt.save_steps", -1, "--reward.timeout", 2)


def trained(tmp_path, raises: int, hangs: int) -> Trained:
    (tmp_path / "reward.py").write_text(REWARD.format(raises=raises, hangs=hangs))
    folder = tmp_path / "run"
    flags = (*FLAGS, "--reward.remote_url", tmp_path / "reward.py")
    return Trained(run(*quickstart(folder, *flags)), folder)


@pytest.fixture(scope="module")
def stumbling(embedded, tmp_path_factory) -> Trained:
    done = trained(tmp_path_factory.mktemp("stumbling"), raises=20, hangs=100)
    assert done.code == 0, done.output
    return done


def test_every_failure_is_counted_once(stumbling) -> None:
    from openrlhf_prefix.report.run_folder import RunFolder

    folder = RunFolder(stumbling.folder)
    fates = (stumbling.folder.parent / "fates.log").read_text().split()
    rows = folder.read("metrics")
    counted = sum(row.get("reward/failed", 0) + row.get("eval_rewards_failed", 0) for row in rows)
    # One call more than samples: the trial on the first demonstration, the fourth call is the first that raises.
    assert len(fates) == 2 * 128 + 2 * 32 + 1
    assert counted == fates.count("raise") + fates.count("hang") and fates.count("hang") >= 1
    failures = folder.read("reward_failures")
    assert len(failures) == counted
    assert {failure["reason"] for failure in failures} <= {"error", "timeout"}
    assert any("the judge is out for lunch" in failure["text"] for failure in failures)


def test_the_others_train_and_bring_their_own_metrics(stumbling) -> None:
    for row in stumbling.metrics():
        assert row["seen"] == 1.0 and row["rollout/num_samples"] == 128
        assert 0 < row["reward"] < 1 and row["actor_grad_norm"] > 0
    assert "failed" in stumbling.output


@pytest.mark.long
def test_too_many_failures_stop_the_run_with_one_line(embedded, tmp_path) -> None:
    done = trained(tmp_path, raises=5, hangs=0)
    assert done.code == 1
    last = [line for line in done.output.splitlines() if line.startswith("openrlhf-prefix: stopped: ")]
    assert len(last) == 1
    assert "of 128 rewards failed" in last[0] and "--reward.error_limit 0.1" in last[0]
    assert "ValueError: the judge is out for lunch" in last[0]


@pytest.mark.long
def test_a_reward_model_scores_the_batch(embedded, tmp_path) -> None:
    """The base model with a fresh value head: rewards are arbitrary numbers, finite, and different from row to row."""
    model = ("--reward.model_name_or_path", ".cache/quickstart/model", "--reward.num_gpus_per_node", 1)
    flags = ("--data.max_samples", 16, "--ckpt.save_steps", -1, "--eval.dataset", "")
    done = Trained(run(*quickstart(tmp_path / "run", *flags, *model)), tmp_path / "run")
    assert done.code == 0, done.output
    (row,) = done.metrics()
    assert row["rollout/reward_std"] > 0 and row["reward/failed"] == 0 and row["actor_grad_norm"] > 0
