"""A reward that is learnt: which rows are pairs, what hidden states say of them, over ranks and layouts."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import make_policy, make_source, run_ranks, train
from ranks_as_ray import Ranks, made_over_ranks

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.errors import RunStopped  # noqa: E402
from openrlhf_prefix.runtime.controller.irl import RewardLearning  # noqa: E402
from openrlhf_prefix.runtime.learner.hidden import Judged, compare  # noqa: E402
from openrlhf_prefix.runtime.learner.states import pack, unpack  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

PROMPT, GROUP = 3, 3
SIZES = {"hybrid.preset": "irl_reward", "rollout.batch_size": 3, "rollout.n_samples_per_prompt": GROUP}
SIZES |= {"train.batch_size": 9, "rollout.max_new_tokens": 8, "vllm.num_engines": 1, "actor.num_gpus_per_node": 1}


def row(response: list[int], whole: bool) -> Experience:
    sequences = torch.tensor([[1] * PROMPT + response])
    return Experience(
        sequences=sequences,
        attention_mask=torch.ones_like(sequences),
        action_mask=torch.arange(1, sequences.shape[1]).unsqueeze(0) >= PROMPT,
        rewards=torch.zeros(1),
        info={"prefix_length": torch.tensor([len(response) if whole else 0]), "reward": torch.zeros(1)},
    )


# Problem 0: its demonstration and first own sample part at the second token. Problem 1: they are equal, the other own
# sample is not. Problem 2 has no demonstration.
TEXTS = [
    *([5, 6], [7, 8, 9, 4], [5, 9, 2]),
    *([4, 4, 2], [5], [4, 4, 2]),
    *([8], [9, 9], [6, 6, 6]),
]


def samples() -> list[Experience]:
    return [row(text, place in (2, 5)) for place, text in enumerate(TEXTS)]


class Maker:
    """The feature of token t is e_t; two units a batch, the last first."""

    tokenizer = SimpleNamespace(pad_token_id=0)

    def __init__(self, scale: float = 1.0) -> None:
        self.batches, self.scale = [], scale

    def split_rollout_samples(self, units: list[Experience]) -> list[Experience]:
        parts = [units[start : start + 2] for start in range(0, len(units), 2)]
        return [Experience.concat_experiences(part, 0) for part in reversed(parts)]

    def passes(self, batches: list[Experience], method: str, pairs: list, weights: list) -> list[Judged]:
        assert method == "judge"
        self.batches += [batch.index for batch in batches]
        return [self.judged(*one) for one in zip(batches, pairs, weights, strict=True)]

    def judged(self, batch: Experience, pairs: list, weights: torch.Tensor | None) -> Judged:
        texts = [tokens[mask] for tokens, mask in zip(batch.sequences[:, 1:], batch.action_mask.bool(), strict=True)]
        x = [self.scale * torch.eye(10)[text] for text in texts]
        w = torch.zeros(10) if weights is None else weights
        return Judged(torch.stack([one[-1] for one in x]), [compare(x[a], x[b], first, w) for a, b, first in pairs])


def test_the_head_learns_from_the_pairs_and_scores_all_rows_afterwards() -> None:
    """One pair: tokens (9, 2) against (6, 6), whose last stands. The gradient is -(e_9 + e_2 - 2 e_6) / 4, lr is 1."""
    learning, rows, maker = RewardLearning(flags_of(SIZES)), samples(), Maker()
    metrics = learning.judge(rows, maker)
    assert metrics == {"irl/pairs": 1.0, "irl/equal": 1.0, "irl/loss": pytest.approx(math.log(2)), "irl/accuracy": 0.0}
    w = {9: 0.25, 2: 0.25, 6: -0.5}
    assert [one.rewards.item() for one in rows] == [w.get(text[-1], 0.0) for text in TEXTS]
    assert [one.info["reward"].item() for one in rows] == [one.rewards.item() for one in rows]
    assert sorted(place for batch in maker.batches for place in batch) == list(range(9))  # each row once
    assert next(batch for batch in maker.batches if 2 in batch)[-2:] == [2, 0]  # a pair in one batch
    metrics = learning.judge(samples(), maker)
    assert metrics["irl/accuracy"] == 1.0  # by the weights before its step
    assert metrics["irl/loss"] == pytest.approx(math.log(1 + math.exp(-0.75)))


def test_a_step_without_a_pair_keeps_the_head() -> None:
    learning = RewardLearning(flags_of(SIZES))
    learning.judge(samples(), Maker())
    before, rows = learning.head.weights.clone(), samples()[3:]
    assert learning.judge(rows, Maker()) == {"irl/pairs": 0.0, "irl/equal": 1.0}
    assert torch.equal(learning.head.weights, before) and rows[-1].rewards.item() == -0.5


def test_states_that_are_not_finite_stop_the_run_before_they_are_learnt() -> None:
    learning = RewardLearning(flags_of(SIZES))
    with pytest.raises(RunStopped, match="hidden states of 1 of 1"):
        learning.judge(samples(), Maker(math.inf))
    assert learning.head.weights is None


@pytest.mark.parametrize("visits", [0, 1])
def test_a_checkpoint_of_the_controller_has_the_head(tmp_path: Path, visits: int) -> None:
    """Saved before the first pair, or after it; the next visit of a restored run is to the bit that of the other."""
    from openrlhf_prefix.runtime.controller.trainer import PrefixController

    def parts(learning: RewardLearning) -> dict[str, Any]:
        maker = SimpleNamespace(rescue=None, contrasting=SimpleNamespace(contrast=None))
        run = SimpleNamespace(parts={}, supervised=None, experience_maker=maker, learning=learning)
        run.sampler, run.start_states = SimpleNamespace(controller=None, trust=None), lambda: None
        PrefixController.join_states(run)
        return {name: part for name, part in run.parts.items() if part}

    through, after = (RewardLearning(flags_of(SIZES)) for _ in range(2))
    for _ in range(visits):
        through.judge(samples(), Maker())
    torch.save(pack(parts(through)), tmp_path / "controller.pt")
    unpack(parts(after), torch.load(tmp_path / "controller.pt", weights_only=True))
    rows = [samples(), samples()]
    metrics = [learning.judge(one, Maker()) for learning, one in zip((through, after), rows, strict=True)]
    assert metrics[0] == metrics[1] and torch.equal(through.head.weights, after.head.weights)
    assert [one.rewards for one in rows[0]] == [one.rewards for one in rows[1]] and parts(through).keys() == {"reward"}
    assert not parts(RewardLearning(flags_of(SIZES | {"hybrid.preset": "luffy"})))


def test_given_rewards_stay() -> None:
    rows = samples()
    assert RewardLearning(flags_of(SIZES | {"hybrid.preset": "luffy"})).judge(rows, None) == {}
    assert not any(one.rewards.any() for one in rows)


def learn_over_ranks(folder: Path, packed: bool) -> None:
    """Three visits of the same rows, with steps of the policy between them, by the experience maker's own batches; and
    by hand, from a pass over each row alone and autograd."""

    ranks = int(os.environ["WORLD_SIZE"])
    flags = {**SIZES, "actor.num_gpus_per_node": ranks, "ref.num_gpus_per_node": ranks, "train.batch_size": 18}
    flags |= {"rollout.batch_size": 6, "train.micro_batch_size": 1, "rollout.micro_batch_size": 2}
    flags |= {"ds.zero_stage": 3, "irl.lr": 2.0}
    policy, found = make_policy(folder / "source", folder / "run", **flags), []
    policy.actor.packing_samples = packed  # its flag would ask for flash-attn
    learning, wanted = RewardLearning(policy.strategy.args), ByHand(policy, lr=2.0)
    with made_over_ranks(policy.strategy, Ranks(policy)) as maker:
        for seed in range(3):
            rows = samples()
            loss = wanted.learn(rows)
            metrics = learning.judge(rows, maker)
            assert metrics["irl/loss"] == pytest.approx(loss, abs=2e-3) and metrics["irl/pairs"] == 1.0
            rewards = torch.cat([one.rewards for one in rows])
            torch.testing.assert_close(rewards, wanted.rewards(rows), rtol=0, atol=5e-3)
            found.append((rewards, learning.head.weights))
            train(policy, seed)
    assert rewards.std() > 0.05  # far above the tolerance
    policy.actor.model.destroy()
    torch.save(found, folder / f"{ranks}_{os.environ['RANK']}_{packed}.pt")


class ByHand:
    """Reads hidden states of single rows, without padding, where the model itself gives them."""

    def __init__(self, policy: Any, lr: float) -> None:
        self.policy, self.lr = policy, lr
        self.w = torch.zeros(16)  # the width of the model

    def states(self, one: Experience) -> torch.Tensor:
        """(T, H) of a row's response, of length 1."""
        positions = torch.arange(one.sequences.shape[1]).unsqueeze(0)
        with torch.no_grad():
            output = self.policy.actor.model(one.sequences, position_ids=positions, output_hidden_states=True)
        response = output.hidden_states[-1][0, PROMPT:].float()
        return response / response.square().sum(-1, keepdim=True).sqrt()

    def learn(self, rows: list[Experience]) -> float:
        """By the only pair: rows 2 and 0, of 3 and 2 tokens, which part at the second."""
        star, own = self.states(rows[2]), self.states(rows[0])
        w = self.w.clone().requires_grad_()
        margins = [(star[1] - own[1]) @ w, (star[2] - own[1]) @ w]
        loss = sum(torch.log1p(torch.exp(-margin)) for margin in margins) / 2
        loss.backward()
        self.w = self.w - self.lr * w.grad
        return loss.item()

    def rewards(self, rows: list[Experience]) -> torch.Tensor:
        return torch.stack([self.states(one)[-1] @ self.w for one in rows])


def both_layouts(folder: Path) -> None:
    for packed in (False, True):
        learn_over_ranks(folder, packed)


def test_one_rank_and_two_learn_the_same_head(tmp_path: Path) -> None:
    """The batches are the same ones, and the head to the bit, until steps in bf16 have moved the policies apart."""
    make_source(tmp_path / "source", tied=False)
    for ranks in (1, 2):
        run_ranks(ranks, both_layouts, tmp_path, seconds=300.0)
    for packed in (False, True):
        alone, *others = (torch.load(tmp_path / f"{name}_{packed}.pt") for name in ("1_0", "2_0", "2_1"))
        for found in others:
            assert all(torch.equal(one, other) for one, other in zip(found[0], alone[0], strict=True))
            for visit, first in zip(found, alone, strict=True):
                for one, other in zip(visit, first, strict=True):
                    torch.testing.assert_close(one, other, rtol=0, atol=0.01)
