"""Rows on their way to optimizer steps, ranks and micro-batches: none lost, none twice, equal shares."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience, split_experience_batch  # noqa: E402

from openrlhf_prefix.runtime.rows import batches  # noqa: E402
from openrlhf_prefix.runtime.rows.fields import prefix_mask_of  # noqa: E402


def row(number: int, length: int) -> Experience:
    """A row whose tokens all carry its number."""
    return Experience(
        sequences=torch.full((1, length), number),
        attention_mask=torch.ones(1, length, dtype=torch.long),
        action_mask=torch.ones(1, length - 1, dtype=torch.bool),
        index=[number],
        info={"prefix_length": torch.tensor([number % 3])},
    )


def numbers(rows: list[Experience]) -> list[int]:
    return [int(one.sequences[0, 0]) for one in rows if one.action_mask.any()]


LENGTHS = [40, 2, 9, 30, 5, 5, 17, 3, 22, 8, 12, 6]
ROWS = [row(number, length) for number, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_optimizer_step_holds_the_same_rows_for_every_number_of_ranks(ranks: int) -> None:
    dealt = batches.deal(ROWS, 4, ranks, trained=[True] * 12)
    share = len(dealt) // ranks
    for step in range(3):
        per_rank = 4 // ranks
        parts = [dealt[rank * share + step * per_rank :][:per_rank] for rank in range(ranks)]
        assert sorted(sum(map(numbers, parts), [])) == [4 * step + place for place in range(4)]


def test_a_step_that_does_not_divide_is_filled_with_blank_rows() -> None:
    """5 rows on 2 ranks, steps of 4: shares of 3 rows, one of them blank."""
    dealt = batches.deal(ROWS[:5], 4, 2, trained=[True] * 5)
    assert len(dealt) == 6 and sorted(numbers(dealt)) == [0, 1, 2, 3, 4]
    assert sum(not one.action_mask.any() for one in dealt) == 1


def test_long_and_short_rows_are_spread_over_the_ranks() -> None:
    """40 + 2 against 9 + 30: the best split of the first four rows into pairs."""
    dealt = batches.deal(ROWS[:4], 4, 2, trained=[True] * 4)
    assert {frozenset(numbers(dealt[:2])), frozenset(numbers(dealt[2:]))} == {frozenset({0, 1}), frozenset({2, 3})}


def test_the_shuffle_depends_on_the_seed_and_on_nothing_else() -> None:
    """The same rows in another split and order of Experiences, as dynamic forward batches bring them."""
    pad = Experience.concat_experiences
    one_way = [pad(ROWS[:5], 0), pad(ROWS[5:], 0)]
    another = [pad([ROWS[3], ROWS[11], ROWS[0]], 0), *ROWS[1:3], pad(ROWS[4:11], 0)]
    first, second = (numbers(batches.shuffled(split, seed=5)) for split in (one_way, another))
    assert first == second and sorted(first) == list(range(12)) and first != sorted(first)
    assert numbers(batches.shuffled(one_way, seed=6)) != first


def test_cutting_a_row_out_keeps_its_info() -> None:
    whole = Experience.concat_experiences(ROWS[:3], 0)
    cut = batches.single_rows(whole)
    assert [one.info["prefix_length"].tolist() for one in cut] == [[0], [1], [2]]
    assert [one.index for one in cut] == [[0], [1], [2]]


def test_rows_without_a_gradient_leave_a_step_whose_counts_stay() -> None:
    """Steps of 4: three rows train in the first, none in the second, one in the third; row n has n % 3 prefix tokens.

    First step, lengths 40, 2, 9, 30: 77 action tokens, of which 0 + 1 + 2 + 0 are of a prefix (row 1 has 1 token).
    """
    dealt = batches.deal(ROWS, 4, 2, trained=[number in (0, 2, 3, 10) for number in range(12)])
    shares = [dealt[: len(dealt) // 2], dealt[len(dealt) // 2 :]]
    steps = [[batches.optimizer_steps(share)[step] for share in shares] for step in range(3)]
    assert [sorted(numbers(sum(step, []))) for step in steps] == [[0, 2, 3], [], [10]]
    assert [[len(share) for share in step] for step in steps] == [[2, 2], [1, 1], [1, 1]]
    counts = [batches.counts_of([buffered(step[0])]) for step in steps]
    assert counts[0] == batches.StepCounts(rows=4.0, tokens=77.0, sampled=74.0, trained=3.0)
    assert [(one.rows, one.trained) for one in counts] == [(4.0, 3.0), (4.0, 0.0), (4.0, 1.0)]


def test_a_blank_row_is_two_tokens_long() -> None:
    one = batches.blank(ROWS[0])
    assert one.sequences.shape == one.attention_mask.shape == (1, 2) and one.action_mask.tolist() == [[False]]
    assert ROWS[0].sequences.shape == (1, 40)


def buffered(rows: list[Experience]) -> list[Experience]:
    """As OpenRLHF's replay buffer holds them: without the batch dimension."""
    return sum((split_experience_batch(replace(one)) for one in rows), [])


@pytest.mark.parametrize(("micro", "sizes"), [(1, [[1] * 4, [1] * 2]), (3, [[3, 1], [2]])])
def test_static_micro_batches_keep_the_rest(micro: int, sizes: list[list[int]], monkeypatch) -> None:
    """6 rows of this rank, 4 to a step: a last step and a last micro-batch that are cut short stay in."""
    plan = batches.micro_batches([ROWS[:4], ROWS[4:6]], static(micro, monkeypatch), None)
    assert [[len(batch) for batch in step] for step in plan] == sizes
    assert sorted(numbers(sum(sum(plan, []), []))) == list(range(6))


def test_rows_of_similar_length_share_a_micro_batch(monkeypatch) -> None:
    """40 30 | 22 17 | 12 9: 16 tokens of padding of 146; in the order of the rows it were 38 + 21 + 2 of 191."""
    six = [ROWS[number] for number in (0, 2, 3, 6, 8, 10)]
    (plan,) = batches.micro_batches([six], static(2, monkeypatch), None)
    assert [numbers(batch) for batch in plan] == [[0, 3], [8, 6], [10, 2]]


def test_a_rank_with_fewer_rows_fills_up_with_blank_batches(monkeypatch) -> None:
    """Another rank has 5 micro-batches."""
    args = static(2, monkeypatch)
    monkeypatch.setattr(batches.dist, "all_reduce", lambda counts, op, group: counts.fill_(5))
    (plan,) = batches.micro_batches([buffered(ROWS[:3])], args, None)
    assert [len(batch) for batch in plan] == [2, 1, 1, 1, 1]
    assert not any(one.action_mask.any() for batch in plan[2:] for one in batch)


def static(width: int, monkeypatch) -> SimpleNamespace:
    """Flags of static micro-batches, for one rank."""
    monkeypatch.setattr(batches.dist, "all_reduce", lambda counts, op, group: None)
    train = SimpleNamespace(micro_batch_size=width, dynamic_batch_enable=False)
    return SimpleNamespace(train=train, ds=SimpleNamespace())


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, [0, 0, 0, 0, 0, 0]),
        (1, [0, 0, 1, 0, 0, 0]),
        (2, [0, 0, 1, 1, 0, 0]),
        (3, [0, 0, 1, 1, 1, 0]),  # the whole response
        (9, [0, 0, 1, 1, 1, 0]),  # never past it
    ],
)
def test_the_prefix_mask_at_its_boundaries(length: int, expected: list[int]) -> None:
    """Action tokens on the grid of tokens 1..6: prompt, prompt, three of the response, padding."""
    one = Experience(action_mask=torch.tensor([[0, 0, 1, 1, 1, 0]]), info={"prefix_length": torch.tensor([length])})
    assert prefix_mask_of(one).int().tolist() == [expected]
