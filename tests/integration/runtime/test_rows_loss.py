"""Which rows of a rollout batch are forwarded before the step, and what a step without a gradient does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import make_policy, make_source, run_ranks, train

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.runtime.controller.experience_maker import PrefixExperienceMaker  # noqa: E402
from openrlhf_prefix.runtime.rows.fields import ActorForward  # noqa: E402
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, on_policy, rows_to_forward, trains  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

ONE_STEP = {
    "actor.model_name_or_path": "model",
    "actor.num_gpus_per_node": 1,
    "rollout.batch_size": 2,
    "rollout.n_samples_per_prompt": 4,
    "rollout.micro_batch_size": 2,
    "rollout.max_new_tokens": 8,
    "train.batch_size": 8,
    "train.micro_batch_size": 2,
    "vllm.num_engines": 1,
    "reward.remote_url": "math-verify",
}
PREFIXED = torch.tensor([False, False, False, True] * 2)
CORRECTED = {
    "algo.advantage.is_correction_level": "token",
    "algo.advantage.is_correction_threshold": [0.5, 2.0],
}


def test_a_supervised_step_has_the_loss_of_its_own_flag() -> None:
    """Whatever the rollouts' demonstration tokens train with, and over the demonstration tokens of the step."""
    flags = {**ONE_STEP, "hybrid.preset": "prefix_after_sft", "hybrid.sft_imitation": "dft"}
    flags |= {"actor.entropy_coef": 0.1, **CORRECTED}
    args = flags_of(flags)
    usual, supervised = hybrid_loss(args), hybrid_loss(args, supervised=True)
    assert (usual.imitation, usual.imitation_mean, usual.entropy_coef) == ("policy", "policy", 0.1)
    assert (supervised.imitation, supervised.imitation_mean, supervised.entropy_coef) == ("dft", "tokens", None)
    assert usual.correction and not supervised.correction


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        ({}, PREFIXED),  # 20 % of the prefix tokens are kept, by their entropy
        ({"prefix.scope": "sequence"}, PREFIXED),
        ({"prefix.keep": 1.0}, PREFIXED & False),
        ({"prefix.keep": 0.0}, PREFIXED & False),
        ({"hybrid.preset": "luffy"}, PREFIXED & False),
        ({"hybrid.preset": "hpt"}, PREFIXED & False),
        ({"hybrid.preset": "srft"}, PREFIXED | True),  # the entropy of a row is in its loss
        ({"hybrid.preset": "relift"}, PREFIXED | True),  # rescued rows may make a second step
        ({"train.batch_size": 4}, PREFIXED | True),
        ({"train.max_epochs": 2}, PREFIXED | True),
        ({"algo.kl.init_coef": 0.1}, PREFIXED | True),
        (CORRECTED, PREFIXED | True),
        ({"actor.old_log_probs": "always"}, PREFIXED | True),
    ],
)
def test_a_row_is_forwarded_before_the_step_where_something_reads_what_comes_out(flags, rows) -> None:
    assert torch.equal(rows_to_forward(PREFIXED, flags_of(ONE_STEP | flags)), rows)


def test_a_correction_and_a_reference_model_leave_the_rows_on_policy() -> None:
    assert on_policy(flags_of(ONE_STEP | {"algo.kl.init_coef": 0.1})) and on_policy(flags_of(ONE_STEP | CORRECTED))
    assert not on_policy(flags_of(ONE_STEP | {"train.batch_size": 4}))


@pytest.mark.parametrize(
    ("flags", "everywhere"),
    [
        ({}, False),
        ({"algo.kl.init_coef": 0.1, "algo.kl.use_loss": True, "algo.kl.estimator": "k2"}, True),
        ({"algo.kl.init_coef": 0.1, "algo.kl.use_loss": False}, False),  # in the reward: an advantage of each token
        ({"actor.entropy_coef": 0.01}, True),
        ({"actor.entropy_coef": 0.0}, False),  # measured alone
        ({"actor.aux_loss_coef": 0.01}, True),
    ],
)
def test_a_row_without_a_trained_token_stays_where_a_term_acts_on_every_row(flags, everywhere) -> None:
    args = flags_of(ONE_STEP | flags)
    assert trains(0, args) is everywhere and trains(1, args) is True


class Group:
    """Actors of a model; what they are asked for."""

    def __init__(self) -> None:
        self.asked: list[torch.Tensor] = []

    def async_run_method_batch(self, method_name: str, sequences: list[torch.Tensor], **inputs: Any) -> list:
        self.asked += sequences
        return [[ActorForward(-rows[:, 1:].float(), rows[:, 1:].float() / 2) for rows in sequences]]


@pytest.mark.parametrize(("keep", "passes"), [(0.2, [[7, 3]]), (1.0, []), (None, [[7, 6], [5, 4], [3, 2], [1, 0]])])
def test_rows_that_nobody_reads_come_back_without_log_probs(keep, passes, monkeypatch) -> None:
    """Row n has n + 2 tokens of n; rows 3 and 7 are prefixed. keep None stands for a pass over all rows."""
    flags = {"prefix.keep": keep} if keep is not None else {"actor.old_log_probs": "always"}
    maker = object.__new__(PrefixExperienceMaker)
    maker.args = flags_of(ONE_STEP | flags)
    maker.args.train.colocate_all = maker.args.train.colocate_actor_ref = False
    maker.strategy, maker.tokenizer = SimpleNamespace(args=maker.args), SimpleNamespace(pad_token_id=0)
    maker.actor_model_group, maker._passes, maker._unseen, maker._entropies = Group(), None, [], []
    maker.teacher = SimpleNamespace(group=None)
    maker.critic_model_group = maker.initial_model_group = maker.reward_model_group = maker.reference = None
    ray = SimpleNamespace(get=lambda references: references, put=lambda value: value)
    monkeypatch.setattr("openrlhf.trainer.ppo_utils.experience_maker.ray", ray)
    found, entropies = maker.forwarded([row(number, int(PREFIXED[number])) for number in range(8)])
    asked = [[int(one.max()) for one in rows] for rows in maker.actor_model_group.asked]
    assert asked == passes
    seen = set(sum(passes, []))
    places = [place for experience in found for place in experience.index]
    assert sorted(places) == list(range(8))
    for experience, entropy in zip(found, entropies, strict=True):
        for place, log_probs, of_row in zip(experience.index, experience.action_log_probs, entropy, strict=True):
            if place in seen:
                assert log_probs[0] == -place and of_row[0] == place / 2
            else:
                assert log_probs.isnan().all() and of_row.isnan().all()


def row(number: int, prefix: int) -> Experience:
    tokens = torch.full((1, number + 2), number)
    return Experience(
        sequences=tokens,
        attention_mask=torch.ones_like(tokens),
        action_mask=torch.ones(1, number + 1, dtype=torch.bool),
        rewards=torch.zeros(1),
        info={"prefix_length": torch.tensor([prefix])},
    )


def two_steps(folder: Path, skipping: bool, name: str) -> None:
    """A step with a gradient, and one without; the weights after each."""
    policy = make_policy(folder / "source", folder / name, **{"ds.zero_stage": 2, "ds.param_dtype": "bf16"})
    rates, weights = [], []
    for seed, advantages in ((1, 1.0), (2, 0.0)):
        status = train(policy, seed, advantages, skipping)
        rates.append((status["skipped_steps"], policy.actor_scheduler.last_epoch))
        weights.append(
            torch.cat([value.detach().float().flatten() for value in policy.actor.model.module.parameters()])
        )
    if torch.distributed.get_rank() == 0:
        torch.save((rates, weights), folder / f"{name}.pt")


def test_a_step_without_a_gradient_still_steps_the_optimizer(tmp_path: Path) -> None:
    """Adam goes on along its momentum, and the schedule goes on; with all rows, or with a blank one on each rank."""
    make_source(tmp_path / "source", tied=True)
    for skipping in (True, False):
        run_ranks(2, two_steps, tmp_path, skipping, f"skipping {skipping}", seconds=200.0)
    (rates, weights), (every_rate, every) = (torch.load(tmp_path / f"skipping {one}.pt") for one in (True, False))
    assert rates == every_rate == [(0.0, 1), (0.0, 2)]
    assert not torch.equal(weights[0], weights[1])
    for ours, theirs in zip(weights, every, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
