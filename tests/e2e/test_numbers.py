"""The numbers of a run: engine and actor see the same policy, and what is measured now and then."""

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
def corrected(embedded, tmp_path_factory) -> Trained:
    """Four steps with the correction, which records the engine's log-probs."""
    folder = tmp_path_factory.mktemp("numbers") / "run"
    finished = Trained(run(*quickstart(folder, *FLAGS, *CORRECTED)), folder)
    assert finished.code == 0, finished.output
    return finished


def test_engine_and_actor_agree_on_the_sampled_tokens_after_every_update(corrected) -> None:
    """bf16 on a CPU; a stale engine would be off by what four updates changed."""
    differences = [row["rollout/log_prob_difference"] for row in corrected.metrics()]
    assert len(differences) == 4 and max(differences) < 0.02 and min(differences) > 0


def test_every_sync_was_checked(corrected) -> None:
    assert all(row["sync/tensors_checked"] == 51 and row["sync/tensors_unchecked"] == 0 for row in corrected.metrics())


def test_the_prefix_tokens_gradient_is_measured_every_second_time(corrected) -> None:
    shares = [row.get("prefix/gradient_share") for row in corrected.metrics()]
    assert [share is not None for share in shares] == [True, False, True, False]
    assert 0.1 < shares[0] < 3.0
