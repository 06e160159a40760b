"""Rivals on the real stack: whole demonstrations in a group, and nothing but demonstrations."""

import pytest
from conftest import Trained, quickstart, run

FLAGS = ("--ckpt.save_steps", -1, "--eval.n_samples_per_prompt", 1, "--run.rollout_groups", -1)


def trained(folder, preset: str, *flags: object) -> Trained:
    done = Trained(run(*quickstart(folder, *FLAGS, "--hybrid.preset", preset, *flags)), folder)
    assert done.code == 0, done.output
    return done


@pytest.fixture(scope="module")
def luffy(embedded, tmp_path_factory) -> Trained:
    return trained(tmp_path_factory.mktemp("luffy") / "run", "luffy", "--data.max_samples", 32)


def test_a_demonstration_is_a_member_of_its_group(luffy) -> None:
    """16 groups a step: the last of 8 rows is the whole demonstration, verified as right, with its stop token, and the
    policy writes nothing after it."""
    rows = luffy.rollouts()
    assert len(rows) == 2 * 128
    for row in rows:
        demonstration = row["slot"] == 7
        assert bool(row["prefix"]) == demonstration
        if demonstration:
            assert row["prefix"].endswith("<|im_end|>") and row["continuation"] == "" and row["reward"] == 1.0
    group = [row for row in rows if row["step"] == 1 and row["group"] == 0]
    mean = sum(row["reward"] for row in group) / 8
    assert group[7]["prefix_advantage"] == pytest.approx(1 - mean) and group[0]["advantage"] == pytest.approx(
        group[0]["reward"] - mean
    )


def test_its_loss_and_gradient_are_measured(luffy) -> None:
    for row in luffy.metrics():
        assert row["imitation_loss"] < 0 and row["actor_grad_norm"] > 0 and row["prefix/ratio"] == 1.0


def test_supervised_training_lowers_the_loss_of_the_demonstrations(embedded, tmp_path) -> None:
    """One demonstration a group and no sample: 128 rows a step, three steps over the same 128 problems."""
    flags = ("--rollout.n_samples_per_prompt", 1, "--rollout.batch_size", 128, "--train.num_episodes", 3)
    done = trained(tmp_path / "run", "sft", *flags, "--actor.adam.lr", 1e-3)
    losses = [row["imitation_loss"] for row in done.metrics()]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2] > 0
    assert all("rollout/entropy" not in row and row["prefix/rows"] == 128 for row in done.metrics())
