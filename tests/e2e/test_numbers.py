"""The numbers of a run: engine and actor see the same policy, and the same seed gives the same run."""

import json

import pytest
from conftest import Trained, quickstart, run

FLAGS = (
    "--data.max_samples",
    64,
    "--eval.n_samples_per_prompt",
    1,
    "--ckpt.save_steps",
    -1,
    "--run.rollout_groups",
    -1,
)
CORRECTED = (
    "--algo.advantage.is_correction_level",
    "token",
    "--actor.entropy_coef",
    0.001,
    "--prefix.gradient_every",
    2,
)


@pytest.fixture(scope="module")
def twice(embedded, tmp_path_factory) -> list[Trained]:
    """The same command in two folders: four steps with the correction, which records the engine's log-probs."""
    runs = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp("numbers") / name
        runs.append(Trained(run(*quickstart(folder, *FLAGS, *CORRECTED)), folder))
        assert runs[-1].code == 0, runs[-1].output
    return runs


def test_engine_and_actor_agree_on_the_sampled_tokens_after_every_update(twice) -> None:
    """bf16 on a CPU; a stale engine would be off by what four updates changed."""
    differences = [row["rollout/log_prob_difference"] for row in twice[0].metrics()]
    assert len(differences) == 4 and max(differences) < 0.02 and min(differences) > 0


def test_every_sync_was_checked(twice) -> None:
    assert all(row["sync/tensors_checked"] == 51 and row["sync/tensors_unchecked"] == 0 for row in twice[0].metrics())


def test_the_same_seed_gives_the_same_run(twice) -> None:
    """Metrics apart from times, and all rollouts, to the last digit."""

    def lines(trained: Trained, name: str) -> list[dict]:
        text = (trained.folder / f"{name}.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        return [{key: value for key, value in row.items() if not key.startswith("timing/")} for row in rows]

    first, second = twice
    assert lines(first, "metrics") == lines(second, "metrics")
    assert lines(first, "rollouts") == lines(second, "rollouts") and len(lines(first, "rollouts")) == 4 * 128


def test_the_prefix_tokens_gradient_is_measured_every_second_time(twice) -> None:
    shares = [row.get("prefix/gradient_share") for row in twice[0].metrics()]
    assert [share is not None for share in shares] == [True, False, True, False]
    assert 0.1 < shares[0] < 3.0
