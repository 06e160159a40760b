"""Rows on their way to optimizer steps, ranks and micro-batches: none lost, none twice, equal shares."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

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
    dealt = batches.deal(ROWS, step_rows=4, ranks=ranks)
    share = len(dealt) // ranks
    for step in range(3):
        per_rank = 4 // ranks
        parts = [dealt[rank * share + step * per_rank :][:per_rank] for rank in range(ranks)]
        assert sorted(sum(map(numbers, parts), [])) == [4 * step + place for place in range(4)]


def test_a_step_that_does_not_divide_is_filled_with_blank_rows() -> None:
    """5 rows on 2 ranks, steps of 4: shares of 3 rows, one of them blank."""
    dealt = batches.deal(ROWS[:5], step_rows=4, ranks=2)
    assert len(dealt) == 6 and sorted(numbers(dealt)) == [0, 1, 2, 3, 4]
    assert sum(not one.action_mask.any() for one in dealt) == 1


def test_long_and_short_rows_are_spread_over_the_ranks() -> None:
    """40 + 2 against 9 + 30: the best split of the first four rows into pairs."""
    dealt = batches.deal(ROWS[:4], step_rows=4, ranks=2)
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


@pytest.mark.parametrize(("micro", "sizes"), [(1, [[1] * 4, [1] * 2]), (3, [[3, 1], [2]])])
def test_static_micro_batches_keep_the_rest(micro: int, sizes: list[list[int]], monkeypatch) -> None:
    """6 rows of this rank, 4 to a step: a last step and a last micro-batch that are cut short stay in."""
    monkeypatch.setattr(batches.dist, "get_world_size", lambda group: 1)
    args = SimpleNamespace(
        train=SimpleNamespace(batch_size=4, micro_batch_size=micro, dynamic_batch_enable=False), ds=SimpleNamespace()
    )
    plan = batches.micro_batches(ROWS[:6], args, None)
    assert [[len(batch) for batch in step] for step in plan] == sizes
    assert numbers(sum(sum(plan, []), [])) == list(range(6))


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
