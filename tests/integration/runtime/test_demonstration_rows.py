"""Demonstrations as rows of the replay buffer: what they hold, in which order, and where they take a group's place."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import (  # noqa: E402
    Experience,
    make_experience_batch,
    split_experience_batch,
)

from openrlhf_prefix.data.problems import Problem  # noqa: E402
from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations  # noqa: E402
from openrlhf_prefix.runtime.controller.rescue import Rescue  # noqa: E402
from openrlhf_prefix.runtime.controller.supervised import SupervisedStage, validation_loss  # noqa: E402
from openrlhf_prefix.runtime.rows.fields import prefix_mask_of  # noqa: E402

END = 99


def problem(number: int, *lengths: int) -> Problem:
    """Prompt ids 1 1, demonstration ids 10 + its number."""
    demonstrations = tuple(np.full(length, 10 + index, np.int32) for index, length in enumerate(lengths))
    return Problem(f"p{number}", "s", "7", np.array([1, 1], np.int32), demonstrations, tuple(n - 1 for n in lengths))


PROBLEMS = [problem(0, 3), problem(1), problem(2, 4, 2), problem(3, 5), problem(4, 2)]


def made(held_out: int = 0) -> Demonstrations:
    return Demonstrations(PROBLEMS, seed=1, end=END, held_out=held_out)


def test_a_row_is_prompt_demonstration_and_stop_token_all_of_it_prefix() -> None:
    row = made().row("p0", step=0)
    assert row.sequences.tolist() == [[1, 1, 10, 10, 10, END]]
    assert row.action_mask.tolist() == [[False, True, True, True, True]]  # of the tokens 1 to 5
    assert torch.equal(prefix_mask_of(row), row.action_mask)
    assert {int(made().row("p2", step).sequences[0, 2]) for step in range(20)} == {10, 11}  # both demonstrations


def test_every_pass_visits_every_demonstration_once_in_an_order_of_its_own() -> None:
    """4 problems have one; steps of 6 rows: two steps are three passes."""
    names = [row.prompts[0] for step in range(2) for row in made().batch(step, 6)]
    passes = [names[start : start + 4] for start in (0, 4, 8)]
    assert all(sorted(one) == ["p0", "p2", "p3", "p4"] for one in passes) and len({tuple(one) for one in passes}) > 1


def test_held_out_demonstrations_are_never_trained() -> None:
    kept = made(held_out=1)
    (validated,) = kept.validation
    assert validated not in {row.prompts[0] for step in range(4) for row in kept.batch(step, 3)}


def rollout_row(place: int) -> Experience:
    """A sampled row as the experience maker leaves it, with a metric of the user's and a reference model."""
    tokens = torch.zeros(1, 4)
    return Experience(
        sequences=torch.ones(1, 5, dtype=torch.long),
        attention_mask=torch.ones(1, 5, dtype=torch.long),
        action_mask=torch.tensor([[False, True, True, True]]),
        action_log_probs=tokens,
        base_action_log_probs=tokens,
        rollout_log_probs=tokens,
        advantages=tokens + 1,
        returns=tokens + 1,
        rewards=torch.zeros(1),
        scores=torch.zeros(1),
        response_length=torch.tensor([3]),
        total_length=torch.tensor([5.0]),
        truncated=torch.tensor([False]),
        prompts=[f"p{place // 2}"],
        labels=["7"],
        images=[None],
        mm_train_inputs=[None],
        index=[place],
        info={"prefix_length": torch.tensor([0]), "row_entropy": torch.ones(1), "format": torch.ones(1)},
    )


def rescue(mode: str, step_rows: int = 2) -> Rescue:
    args = SimpleNamespace(
        hybrid=SimpleNamespace(rescue=mode, buffer=None),
        rollout=SimpleNamespace(n_samples_per_prompt=2),
        train=SimpleNamespace(batch_size=step_rows),
    )
    return Rescue(args, made())


ROWS = [rollout_row(place) for place in (3, 0, 2, 1, 6, 7)]  # groups of p0, p1 and p3, shuffled


def test_replace_puts_the_demonstration_first_and_silences_the_rest() -> None:
    """p0 and p1 failed; p1 has no demonstration and stays; p3 was solved."""
    found = rescue("replace")(ROWS, {0: "p0", 1: "p1"}, step=4).rows
    by_place = {row.index[0]: row for row in found}
    assert [row.index[0] for row in found] == [3, 0, 2, 1, 6, 7]
    assert by_place[0].sequences.tolist() == [[1, 1, 10, 10, 10, END]] and prefix_mask_of(by_place[0]).sum() == 4
    assert not by_place[1].action_mask.any()
    assert all(by_place[place] is row for row in ROWS for place in row.index if place > 1)


def test_such_rows_fit_into_a_micro_batch_with_sampled_ones() -> None:
    found = rescue("replace")([rollout_row(place) for place in range(6)], {0: "p0"}, step=0).rows
    batch = make_experience_batch([one for row in found for one in split_experience_batch(row)], False)
    assert batch.sequences.shape == (6, 6) and batch.rollout_log_probs.shape == batch.action_mask.shape
    assert [int(length) for length in batch.info["prefix_length"]] == [4, 0, 0, 0, 0, 0]


def test_buffer_waits_for_a_whole_step_and_serves_in_order() -> None:
    """Steps of 2 rows: p3 waits alone; then p0 and p2 come, p3 and p0 leave as one supervised step, p2 waits."""
    buffer = rescue("buffer")
    assert buffer(ROWS, {3: "p3", 1: "p1"}, step=0).rows == ROWS and buffer.waiting == [("p3", 0)]
    found, metrics = buffer(ROWS, {2: "p2", 0: "p0"}, step=1)
    assert found[:6] == ROWS and [row.prompts[0] for row in found[6:]] == ["p3", "p0"]
    assert buffer.waiting == [("p2", 1)] and metrics == {"rescue/waiting": 1.0, "rescue/supervised_rows": 2.0}


def test_none_changes_nothing() -> None:
    assert rescue("none")(ROWS, {0: "p0"}, step=0) == (ROWS, {})


def stage() -> SupervisedStage:
    hybrid = SimpleNamespace(sft_imitation="nll")
    args = SimpleNamespace(rollout=SimpleNamespace(batch_size=4, n_samples_per_prompt=2), hybrid=hybrid)
    return SupervisedStage(SimpleNamespace(args=args, prompts_dataloader=range(12)), made(), steps=5)


@pytest.mark.parametrize(("step", "episode", "place"), [(0, 0, 0), (2, 0, 8), (3, 1, 0), (5, 1, 8)])
def test_the_loop_goes_on_behind_the_problems_that_were_passed_over(step: int, episode: int, place: int) -> None:
    """Episodes of 12 problems, 4 a step."""
    found = stage().position(step)
    assert found["data_loader_state_dict"] == {"episode": episode, "position": place}
    assert (found["episode"], found["global_step"], found["total_consumed_prompts"]) == (episode, step, 4 * step)


def test_the_validation_loss_is_a_mean_over_tokens_of_all_batches() -> None:
    """-(−1 * 4) and -(−3 * 3) over 7 tokens: 13 / 7. Padding holds an infinity and does not count."""
    rows = [made().row("p0", 0), made().row("p4", 0)]
    log_probs = [torch.full(row.action_mask.shape, value) for row, value in zip(rows, (-1.0, -3.0), strict=True)]
    log_probs[1][0, 0] = -torch.inf
    assert validation_loss(rows, log_probs, "nll") == pytest.approx(13 / 7)
    # What dft lowers is -p, over the same tokens.
    assert validation_loss(rows, log_probs, "dft") == pytest.approx(-(4 * math.exp(-1) + 3 * math.exp(-3)) / 7)


def test_the_first_rise_of_the_loss_ends_the_stage_and_a_state_remembers_it() -> None:
    one = stage()
    losses = iter([2.0, 1.5, 1.6])
    log_probs = lambda batches: [torch.full(b.action_mask.shape, -next(losses)) for b in batches]  # noqa: E731
    one.controller.experience_maker = SimpleNamespace(split_rollout_samples=list, log_probs=log_probs)
    one.demonstrations.validation = ["p0"]
    ends = []
    for _ in range(3):
        one._validate()
        ends.append(one.end)
    assert ends == [5, 5, 0] and one.losses == pytest.approx([2.0, 1.5, 1.6])
    other = stage()
    other.load_state_dict(one.state_dict())
    assert other.end == 0
