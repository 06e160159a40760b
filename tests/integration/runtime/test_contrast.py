"""Demonstrations against own samples, from a rollout batch to rows; and the older weights that sample for them."""

import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import completed, make_policy, make_source, run_ranks, train
from ranks_as_ray import Ranks, made_over_ranks

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.algorithm.contrast import Contrast, Groups  # noqa: E402
from openrlhf_prefix.runtime.controller.contrast import Contrasting  # noqa: E402
from openrlhf_prefix.runtime.controller.evaluating import Evaluating  # noqa: E402
from openrlhf_prefix.runtime.controller.sending import Sending  # noqa: E402
from openrlhf_prefix.runtime.controller.stages import Stages  # noqa: E402
from openrlhf_prefix.runtime.rows.batches import blank, single_rows  # noqa: E402
from openrlhf_prefix.runtime.rows.fields import contrast_of  # noqa: E402
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, rows_to_forward, trained_tokens  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

SIZES = {"rollout.batch_size": 2, "rollout.n_samples_per_prompt": 3, "train.batch_size": 6}
SIZES |= {"rollout.max_new_tokens": 8, "vllm.num_engines": 1, "actor.num_gpus_per_node": 1}
PROMPT = 3


def row(place: int, tokens: int, reward: float = 0.0) -> Experience:
    """Row `place` of groups of 3, the last of which is a demonstration; response ids from 10 x place on."""
    sequences = torch.cat([torch.ones(PROMPT), torch.arange(tokens) + 10 * place]).long().unsqueeze(0)
    mask = torch.arange(1, PROMPT + tokens).unsqueeze(0) >= PROMPT
    return Experience(
        sequences=sequences,
        attention_mask=torch.ones_like(sequences),
        action_mask=mask,
        action_log_probs=-0.125 * sequences[:, 1:].float(),
        advantages=torch.ones(mask.shape),
        rewards=torch.tensor([reward]),
        index=[place],
        prompts=[f"problem {place // 3}"],
        info={
            "prefix_length": torch.tensor([tokens if place % 3 == 2 else 0]),
            "reward_failed": torch.tensor([place == 4]),
            "return": torch.ones(1),
            "prefix_advantage": torch.ones(1),
        },
    )


class Maker:
    """log p by the older policy: -1/4 a token, whoever is asked."""

    def __init__(self) -> None:
        self.reference, self.asked = "the frozen model", []

    def log_probs(self, batches: list[Experience], group: Any = None) -> list[torch.Tensor]:
        self.asked.append(group)
        return [torch.full(batch.action_mask.shape, -0.25) for batch in batches]


class Acting:
    def __init__(self) -> None:
        self.stages: list[int | None] = []

    def of(self, step: int) -> int:
        return step // 2

    @contextmanager
    def acting(self, stage: int | None) -> Any:
        self.stages.append(stage)
        yield
        self.stages.append(None)


def weighed(preset: str) -> tuple[list[Experience], dict[str, float], Maker, Acting, Any]:
    """Two batches, of rows 3, 0 and 5 and of rows 2, 1 and 4; the reward of row 4 failed, row 0 is right."""
    args = flags_of(SIZES | {"hybrid.preset": preset})
    rows = [row(place, tokens, float(place == 0)) for place, tokens in enumerate((2, 4, 3, 1, 5, 2))]
    batches = [Experience.concat_experiences([rows[place] for place in part], 0) for part in ((3, 0, 5), (2, 1, 4))]
    maker, stages = Maker(), Acting()
    metrics = Contrasting(args, stages).weigh(batches, 5, maker)
    return batches, metrics, maker, stages, args


@pytest.mark.parametrize("preset", ["disc_ft", "disc_ft2", "irft", "sspo"])
def test_every_row_gets_its_own_number_and_no_advantage(preset: str) -> None:
    batches, metrics, maker, stages, args = weighed(preset)
    flags, nothing = args.contrast, torch.zeros(2, 3, dtype=torch.bool)
    tokens = torch.tensor([[2, 4, 3], [1, 5, 2]])
    starts = torch.tensor([[0, 10, 20], [30, 40, 50]])
    sums = -0.125 * (starts * tokens + tokens * (tokens - 1) / 2).double()
    rows = Groups(
        now=sums,
        before=-0.25 * tokens.double(),
        tokens=tokens,
        demonstration=torch.tensor([[False, False, True]] * 2),
        valid=torch.tensor([[True] * 3, [True, False, True]]),
        right=torch.tensor([[True, False, False], [False] * 3]),
        equal=nothing,
    )
    contrast = Contrast(flags.rule, flags.tau, flags.gamma, flags.cap, flags.beta)
    wanted, shown = contrast.coefficients(["problem 0", "problem 1"], rows)
    found = {place: one for batch in batches for place, one in zip(batch.index, single_rows(batch), strict=True)}
    assert [contrast_of(found[place]).item() for place in range(6)] == pytest.approx(wanted.flatten().tolist())
    assert metrics == pytest.approx(shown) and metrics["contrast/demonstrations"] == 2.0
    assert not any(batch.advantages.any() or batch.info["return"].any() for batch in batches)
    assert maker.asked == {"disc_ft": ["the frozen model"], "disc_ft2": []}.get(preset, [None])
    assert stages.stages == ([] if preset.startswith("disc") else [2, None])
    trained = [trained_tokens(found[place], hybrid_loss(args)) for place in range(6)]
    assert trained == [0 if preset == "sspo" else 2, 4, 3, 1, 0, 2]
    assert rows_to_forward(nothing.flatten(), args).all() and trained_tokens(blank(found[2]), hybrid_loss(args)) == 0


def test_an_own_sample_that_is_the_demonstration_is_found_whatever_the_padding() -> None:
    args = flags_of(SIZES | {"hybrid.preset": "irft"})
    rows = [row(0, 3), row(1, 4), row(2, 3)]
    for one in rows:
        one.sequences[0, PROMPT : PROMPT + 3] = torch.tensor([7, 8, 9])
    metrics = Contrasting(args, Acting()).weigh([Experience.concat_experiences(rows, 0)], 0, Maker())
    assert metrics["contrast/equal"] == 0.5


def test_without_a_rule_nothing_is_asked() -> None:
    batches, maker = [row(0, 2)], Maker()
    assert Contrasting(flags_of(SIZES), Acting()).weigh(batches, 0, maker) == {}
    assert batches[0].advantages.all() and contrast_of(batches[0]) is None and not maker.asked


class Group:
    """Actors that are asked one after the other; `now` is the stage whose weights they have."""

    def __init__(self) -> None:
        self.taken, self.now = [], None

    def async_run_method(self, method_name: str, stage: int | None = None) -> list:
        if method_name == "take_snapshot":
            self.taken.append(stage)
        elif method_name == "act_as":
            self.now = stage
        return []


def stages(steps: int, **flags: Any) -> Stages:
    given = {f"contrast.{name}": value for name, value in flags.items()}
    return Stages(flags_of(SIZES | {"hybrid.preset": "irft"} | given), steps, Group())


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrlhf_prefix.runtime.controller.stages.ray", SimpleNamespace(get=list))


def test_stages_are_equal_parts_of_the_run() -> None:
    """10 steps in 4 stages of 3; the last has one step."""
    four = stages(10, stages=4)
    assert [four.of(step) for step in range(11)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    for step in range(1, 11):
        four.begin(step)
    assert four.group.taken == [1, 2, 3]
    one = stages(10, stages=1)
    assert {one.of(step) for step in range(11)} == {0} and one.length == 10


def test_a_step_draws_among_the_newest_snapshots_by_seed_and_step() -> None:
    drawn = [stages(400, stages=8, snapshots=3).of(step) for step in range(400)]
    assert drawn == [stages(400, stages=8, snapshots=3).of(step) for step in range(400)]
    for stage in range(8):
        found = drawn[50 * stage : 50 * (stage + 1)]
        assert set(found) == set(range(max(stage - 2, 0), stage + 1))


class Upstream:
    def broadcast_to_vllm(self) -> None:
        self.sent.append(self.stages.group.now)


class Controller(Evaluating, Sending, Upstream):
    """A run of 6 steps in stages of 3, evaluated after the second, without engines."""

    def __init__(self) -> None:
        self.total_steps, self.sent, self.evaluated_with = 6, [], []
        self.stages, self.samples_generator = stages(6, stages=2), SimpleNamespace(step=0, evaluation=None)
        self.engines = SimpleNamespace(deaths=0, revive=set)
        self.actor_model_group = self.vllm_engines = None
        self.check = SimpleNamespace(after_sync=lambda *of_sync: {"checked": 1.0})
        self.start_evaluations()

    def finish_evaluation(self) -> None:
        self.evaluated_with.append(self.stages.held)

    def step(self) -> None:
        self.samples_generator.step += 1
        self.stages.begin(self.samples_generator.step)
        self.broadcast_to_vllm()


def test_engines_sample_with_the_weights_of_a_stage_and_are_evaluated_with_the_current_ones() -> None:
    """Sent are: the current weights and stage 0 again for the evaluation after step 2, stage 1 from step 3 on."""
    run, held = Controller(), []
    for step in range(1, 7):
        held.append(run.stages.held)
        run.step()
        if step in (2, 6):
            run.evaluate(step)
    assert held == [0, 0, 0, 1, 1, 1] and run.sent == [None, 0, 1, None]
    assert run.evaluated_with == [None, None] and run.stages.group.now is None


def test_a_new_engine_gets_what_the_others_have() -> None:
    run = Controller()
    run.engines.revive = lambda: {0}
    run.step()
    assert run.sent == [0]
    run.stages, run.sent = Stages(flags_of(SIZES), 6, Group()), []
    run.step()
    assert run.sent == [None] and run.stages.held is None  # a run without stages sends the current weights


TOKENS = torch.arange(1, 13).unsqueeze(0)
MASK = torch.ones(1, 11, dtype=torch.bool)


def keep_and_return(folder: Path, stage: int, lora: int) -> None:
    """Snapshots before and after a step, act in turn; the current weights come back, and all is in the checkpoint."""
    flags = {"ds.zero_stage": stage, "ds.lora.rank": lora, "hybrid.preset": "irft", "contrast.snapshots": 2}
    run = folder / f"run_{stage}_{lora}"
    policy = make_policy(folder / "source", run, **flags)

    def said() -> tuple[torch.Tensor, dict[str, int]]:
        return policy.forward(TOKENS, MASK, torch.ones_like(TOKENS)).log_probs, policy.weight_fingerprints()

    states = [said()]
    for number in (1, 2):
        assert train(policy, seed=number)["skipped_steps"] == 0.0
        states.append(said())
        if number == 1:
            policy.take_snapshot(1)

    def compare(number: int) -> None:
        log_probs, fingerprints = said()
        assert torch.equal(log_probs, states[number][0]) and fingerprints == states[number][1]

    assert not torch.equal(states[0][0], states[1][0]) and not torch.equal(states[1][0], states[2][0])
    for number in (0, 1):
        policy.act_as(number)
        compare(number)
    policy.act_as(None)
    compare(2)
    policy.save_checkpoint("global_step2", {"global_step": 2})
    completed(policy)
    policy.take_snapshot(2)
    assert sorted(policy.snapshots.of_stage) == [1, 2]  # the oldest has gone
    policy.actor.model.destroy()
    policy = make_policy(folder / "source", run, "global_step2", **flags)
    compare(2)
    policy.act_as(1)
    compare(1)
    policy.act_as(0)
    compare(0)
    policy.act_as(None)
    states.append((train(policy, seed=3), said())[1])  # it trains on from its own weights
    assert not torch.equal(states[3][0], states[2][0])
    policy.actor.model.destroy()


def of_layouts(folder: Path, layouts: list[tuple[int, int]]) -> None:
    for stage, lora in layouts:
        keep_and_return(folder, stage, lora)
    (folder / f"done_{os.environ['WORLD_SIZE']}").touch()


@pytest.mark.parametrize(("ranks", "layouts"), [(1, [(2, 0), (2, 4)]), (2, [(3, 0)])])
def test_older_weights_act_to_the_bit_and_the_current_ones_return(tmp_path: Path, ranks: int, layouts: list) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(ranks, of_layouts, tmp_path, layouts, seconds=300.0)
    assert (tmp_path / f"done_{ranks}").exists()


class OnRanks(Acting):
    """Of a controller that runs on every rank, each with its own policy."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def of(self, step: int) -> int:
        return 0

    @contextmanager
    def acting(self, stage: int | None) -> Any:
        self.policy.act_as(stage)
        yield
        self.policy.act_as(None)


def weigh_over_ranks(folder: Path) -> None:
    """c of two groups after a step, by the experience maker; rank 0 alone: by hand, from passes of single rows."""

    flags = {**SIZES, "hybrid.preset": "irft", "contrast.beta": 1.0, "ds.zero_stage": 3, "rollout.micro_batch_size": 2}
    flags |= {"actor.num_gpus_per_node": int(os.environ["WORLD_SIZE"]), "train.micro_batch_size": 1}
    policy = make_policy(folder / "source", folder / "run", **flags)
    for seed in range(8):
        train(policy, seed)
    rows = [row(place, tokens) for place, tokens in enumerate((2, 4, 3, 1, 5, 2))]
    rows[4].info["reward_failed"] = torch.tensor([False])
    for one in rows:
        one.sequences %= 20  # of 25 tokens
    now = [_total(policy, one) for one in rows]
    policy.act_as(0)
    gained = [after - _total(policy, one) for after, one in zip(now, rows, strict=True)]
    policy.act_as(None)
    stages = OnRanks(policy)
    with made_over_ranks(policy.strategy, Ranks(policy), stages=stages) as maker:
        batches = maker.split_rollout_samples(rows)
        for batch, log_probs in zip(batches, maker.log_probs(batches), strict=True):
            batch.action_log_probs = log_probs
        maker.contrasting.weigh(batches, 0, maker)
    found = {place: contrast_of(batch)[n].item() for batch in batches for n, place in enumerate(batch.index)}
    wanted = []
    for start in (0, 3):
        weights = [torch.sigmoid(-(gained[start + 2] - gained[start + slot])).item() for slot in (0, 1)]
        wanted += [-weight / 2 / 2 for weight in weights] + [sum(weights) / 2 / 2]
    torch.save((found, wanted), folder / f"c_{torch.distributed.get_world_size()}_{os.environ['RANK']}.pt")


def _total(policy: Any, one: Experience) -> torch.Tensor:
    """L of one row."""
    log_probs = policy.forward(one.sequences, one.action_mask, one.attention_mask).log_probs
    return log_probs[one.action_mask.bool()].sum()


def test_rows_are_weighed_alike_on_one_rank_and_on_two(tmp_path: Path) -> None:
    make_source(tmp_path / "source", tied=False)
    for ranks in (1, 2):
        run_ranks(ranks, weigh_over_ranks, tmp_path, seconds=300.0)
        for rank in range(ranks):
            found, wanted = torch.load(tmp_path / f"c_{ranks}_{rank}.pt")
            assert [found[place] for place in range(6)] == pytest.approx(wanted, abs=5e-3)
            # The steps have moved the weights from 1/2.
            assert max(abs(abs(c) - 0.125) for c in wanted[:2]) > 0.02, wanted
