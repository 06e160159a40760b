"""What the teacher says of a rollout batch: of which tokens, by which model, in which context, over ranks."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import LENGTH, make_frozen, make_policy, make_source, run_ranks
from ranks_as_ray import Ranks, made_over_ranks

from openrlhf_prefix.algorithm.hybrid import StepCounts
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.runtime.controller.teacher import Teacher  # noqa: E402
from openrlhf_prefix.runtime.rows.batches import COUNTS, blank, counts_of, deal  # noqa: E402
from openrlhf_prefix.runtime.rows.fields import TEACHER, teacher_of  # noqa: E402
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

END, PROMPT = 3, 4
OPD = {
    "hybrid.preset": "opd",
    "teacher.model": "a/teacher",
    "rollout.batch_size": 2,
    "rollout.n_samples_per_prompt": 2,
}
OPD |= {"train.batch_size": 4, "rollout.max_new_tokens": LENGTH, "vllm.num_engines": 1, "actor.num_gpus_per_node": 1}
OPSD = {"hybrid.preset": "opsd", "teacher.model": "self"}


def row(number: int, prefix: int = 0, length: int = LENGTH, start: int = 20) -> Experience:
    """Prompt 10.., then response from `start` on, whose last token is END, on a grid of its own width."""
    tokens = torch.cat([torch.arange(PROMPT) + 10, torch.arange(length - PROMPT) + start]).unsqueeze(0)
    tokens[0, -1] = END
    mask = torch.arange(1, length).unsqueeze(0) >= PROMPT
    return Experience(
        sequences=tokens,
        attention_mask=torch.ones_like(tokens),
        action_mask=mask,
        action_log_probs=torch.full(mask.shape, torch.nan),
        advantages=mask.float() * (number + 1),
        rewards=torch.zeros(1),
        index=[number],
        prompts=[f"problem {number // 2}"],
        info={
            "prefix_length": torch.tensor([prefix]),
            "return": torch.tensor([number + 1.0]),
            "prefix_advantage": torch.zeros(1),
        },
    )


class Maker:
    """Forwards each row by itself; a token's log-prob is minus its id, less a thousandth of its place."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.groups: list[Any] = []

    def split_rollout_samples(self, rows: list[Experience]) -> list[Experience]:
        return rows[::-1]  # in another order

    def log_probs(self, batches: list[Experience], group: Any) -> list[torch.Tensor]:
        self.seen += [batch.sequences[0].tolist() for batch in batches]
        self.groups.append(group)
        return [
            -(batch.sequences[:, 1:] + torch.arange(1, batch.sequences.shape[1]) / 1000) * batch.action_mask
            for batch in batches
        ]


def judge(rows: list[Experience], acts_on: list[bool], step: int = 0, problems: Any = (), **flags: Any) -> tuple:
    maker = Maker()
    teacher = Teacher(flags_of(OPD | flags), 10, problems, [END], "its group")
    return teacher.judge(rows, torch.tensor(acts_on), step, maker), maker


def test_it_judges_sampled_tokens_but_the_last() -> None:
    """Two batches, of rows 2 and 0 and of rows 1 and 3; row 3 is cut short at the budget and has no end."""
    rows = [row(0), row(1, prefix=3), row(2), row(3, length=9)]
    rows[3].sequences[0, -1] = 27
    batches = [Experience.concat_experiences([rows[2], rows[0]], 0), Experience.concat_experiences(rows[1::2], 0)]
    metrics, maker = judge(batches, [True, True, False, True])
    assert metrics == {"teacher/rows": 3.0} and maker.groups == ["its group"]
    assert sorted(map(len, maker.seen)) == [9, LENGTH, LENGTH]
    found = {place: values for batch in batches for place, values in zip(batch.index, teacher_of(batch), strict=True)}
    for place, tokens in {0: range(20, 27), 1: range(23, 27), 2: (), 3: (20, 21, 22, 23, 27)}.items():
        there = (~found[place].isnan()).nonzero().flatten()
        assert rows[place].sequences[0, there + 1].tolist() == list(tokens)
        wanted = [-token - (at + 1) / 1000 for token, at in zip(tokens, there.tolist(), strict=True)]
        assert found[place][there].tolist() == pytest.approx(wanted)


def test_rows_that_it_acts_on_have_no_reward_advantage_where_the_flag_says_so() -> None:
    rows = [row(0), row(1)]
    judge(rows, [True, False])
    assert rows[0].advantages.eq(0).all() and rows[0].info["return"] == 0
    assert rows[1].advantages.max() == 2 and rows[1].info["return"] == 2
    both = [row(0), row(1)]
    judge(both, [True, True], **{"teacher.instead": False})
    assert [int(one.advantages.max()) for one in both] == [1, 2]


@pytest.mark.parametrize(("steps", "step", "asked"), [(0, 9, 2), (3, 2, 2), (3, 3, 0), (-1, 4, 2), (-1, 5, 0)])
def test_nothing_is_forwarded_once_it_is_withdrawn(steps: int, step: int, asked: int) -> None:
    """A run of 10 steps."""
    rows = [row(0), row(1)]
    metrics, maker = judge(rows, [True, True], step, **{"teacher.steps": steps})
    assert len(maker.seen) == asked and (TEACHER in rows[0].info) == bool(metrics) == bool(asked)
    assert rows[0].advantages.any() != bool(asked)


def test_without_a_row_to_judge_there_is_no_pass() -> None:
    rows = [row(0, prefix=LENGTH - PROMPT), row(1)]  # a whole demonstration
    metrics, maker = judge(rows, [True, False])
    assert metrics == {"teacher/rows": 0.0} and maker.groups == []
    assert teacher_of(rows[0]).isnan().all() and rows[0].advantages.any()


def test_the_policy_is_shown_a_demonstration_in_the_prompt() -> None:
    """Problem 0 has two, of which a step takes one for all rows; problem 1 has none, and keeps its reward."""
    shown = (np.array([1, 50, 51], np.int32), np.array([1, 60], np.int32))
    plain = {"source": "", "answer": "", "prompt_ids": np.arange(PROMPT, dtype=np.int32) + 10}
    problems = [
        Problem("problem 0", demonstrations=shown, limits=(1, 1), shown=shown, **plain),
        Problem("problem 1", demonstrations=(), **plain),
    ]
    contexts = set()
    for step in range(8):
        rows = [row(0), row(1, prefix=2), row(2)]
        metrics, maker = judge(rows, [True] * 3, step, problems, **OPSD)
        assert metrics == {"teacher/rows": 2.0} and maker.groups == [None]
        response = rows[0].sequences[0, PROMPT:].tolist()
        starts = {tuple(one[: -len(response)]) for one in maker.seen}
        assert len(starts) == 1 and all(one[-len(response) :] == response for one in maker.seen)
        (context,) = starts
        contexts.add(context)
        there = ~teacher_of(rows[1]).isnan()
        places = torch.arange(len(context) + 2, len(context) + len(response) - 1) / 1000
        assert teacher_of(rows[1])[there].tolist() == pytest.approx((-torch.arange(22, 27) - places).tolist())
        assert rows[2].advantages.any()
    assert contexts == {(1, 50, 51), (1, 60)}


def test_a_row_without_advantage_trains_by_the_teacher_and_counts_in_its_divisor() -> None:
    """Of four rows with 7 judged tokens each, two are judged; on two ranks each has a row, and both know 14."""
    rows, args = [row(number) for number in range(4)], flags_of(OPD | {"teacher.on": "wrong"})
    judge(rows, [True, False, True, False])
    for one in rows:
        one.advantages = torch.zeros_like(one.advantages)
    loss = hybrid_loss(args)
    trained = [trained_tokens(one, loss) for one in rows]
    assert trained == [7, 0, 7, 0]
    dealt = deal(rows, 4, 2, [bool(count) for count in trained])
    assert sorted(one.index for one in dealt) == [[0], [2]]
    for one in dealt:
        one.info[COUNTS] = one.info[COUNTS][0]  # as in the replay buffer
        assert counts_of([[one]]) == StepCounts(rows=4.0, tokens=32.0, sampled=32.0, trained=2.0, taught=14.0)
    assert teacher_of(blank(rows[0])).shape == blank(rows[0]).action_mask.shape


def over_ranks(folder: Path) -> None:
    """The teacher's own ranks, and the policy as its own teacher: log-probs of six rows of uneven lengths."""
    from openrlhf_prefix.runtime.learner.frozen import PrefixTeacher

    flags = {"hybrid.preset": "opd", "teacher.model": str(folder / "teacher"), "ds.zero_stage": 3}
    flags |= {"rollout.micro_batch_size": 2, "teacher.offload": False}
    policy = make_policy(folder / "source", folder / "run", **flags)
    args, strategy = policy.strategy.args, policy.strategy
    frozen, found = make_frozen(strategy, folder / "teacher", PrefixTeacher), {}
    problems = [SimpleNamespace(id=f"problem {n}", shown=(np.array([7, 8, 9], np.int32),)) for n in range(3)]
    shown = {"model": "self", "context": "demonstration"}
    for name, model, changed in (("folder", frozen, {}), ("self", policy, shown)):
        vars(args.teacher).update(changed)
        actors, group = Ranks(policy), Ranks(model).group()
        teacher = Teacher(args, 10, problems, [END], group)
        with made_over_ranks(strategy, actors, teacher=teacher) as maker:
            rows = [row(number, number % 3, LENGTH - number % 4, start=10) for number in range(6)]
            maker.teacher.judge(rows, torch.tensor([True] * 5 + [False]), 0, maker)
        found[name] = [teacher_of(one) for one in rows]
    torch.save(found, folder / f"{torch.distributed.get_world_size()}_{os.environ['RANK']}.pt")


def alone(folder: Path, context: list[int]) -> list[torch.Tensor]:
    """The same by transformers, a row at a time; `context` in place of the prompt where it is not empty."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    found = []
    for number in range(6):
        one = row(number, length=LENGTH - number % 4, start=10)
        head = context or one.sequences[0, :PROMPT].tolist()
        tokens = torch.tensor([head + one.sequences[0, PROMPT:].tolist()])
        with torch.no_grad():
            logits = model(tokens).logits[0, :-1].float().log_softmax(-1)
        values = logits.gather(-1, tokens[0, 1:, None])[len(head) - 1 :, 0]
        values[: number % 3] = values[-1] = torch.nan
        grid = torch.full((one.action_mask.shape[1],), torch.nan)
        grid[PROMPT - 1 :] = values if number < 5 else torch.nan
        found.append(grid)
    return found


def make_sure(folder: Path, tied: bool) -> None:
    """A model whose words depend on what it reads: random weights, eight times their usual size."""
    from transformers import AutoModelForCausalLM

    make_source(folder, tied)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    for weight in model.parameters():
        weight.data *= 8 if weight.dim() > 1 else 1
    model.model.norm.weight.data *= 3
    model.save_pretrained(folder)


def test_over_ranks_it_says_what_the_model_alone_would_say(tmp_path: Path) -> None:
    """Five rows on two ranks under ZeRO-3, three passes filled up to four; another model, and the policy itself."""
    for name in ("source", "teacher"):
        make_sure(tmp_path / name, tied=name == "source")
    run_ranks(2, over_ranks, tmp_path, seconds=300.0)
    wanted = {"folder": alone(tmp_path / "teacher", []), "self": alone(tmp_path / "source", [7, 8, 9])}
    for rank in range(2):
        found = torch.load(tmp_path / f"2_{rank}.pt")
        for name, rows in wanted.items():
            for ours, theirs in zip(found[name], rows, strict=True):
                torch.testing.assert_close(ours[0], theirs, rtol=0, atol=0.1, equal_nan=True)
    for other in (wanted["folder"], alone(tmp_path / "source", [])):  # another model, another context
        differences = [(a - b).abs().nan_to_num().max() for a, b in zip(wanted["self"], other, strict=True)]
        assert min(differences[:5]) > 0.3, differences
