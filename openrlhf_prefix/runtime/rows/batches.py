"""How the rows of a rollout batch become optimizer steps, ranks and micro-batches.

    rollout batch --(seeded shuffle)--> optimizer steps --(balanced by length)--> ranks --> micro-batches

The first two happen in the controller, so that what an optimizer step holds does not depend on the number of ranks.
Every rank gets the same number of rows and of micro-batches, and of forward batches before them, because ZeRO-3
gathers weights in each of them: what is missing is filled with blank rows, which have no action token and count for
nothing.
"""

from dataclasses import fields
from typing import Any

import torch
import torch.distributed as dist
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.seqlen_balancing import get_minimum_num_micro_batch_size, get_seqlen_balanced_partitions


def single_rows(experience: Experience) -> list[Experience]:
    """The rows of an Experience as Experiences of one row each; OpenRLHF's own split drops the batch dimension."""

    def cut(value: Any, row: int) -> Any:
        if isinstance(value, dict):
            return {key: cut(entry, row) for key, entry in value.items()}
        return value[row : row + 1] if isinstance(value, torch.Tensor | list) else value

    rows = range(len(experience.sequences))
    names = [field.name for field in fields(Experience)]
    return [Experience(**{name: cut(getattr(experience, name), row) for name in names}) for row in rows]


def blank(row: Experience) -> Experience:
    """A row that trains nothing: a copy of `row` without action tokens."""
    copy = Experience(**{field.name: getattr(row, field.name) for field in fields(Experience)})
    copy.action_mask = torch.zeros_like(row.action_mask)
    return copy


def forward_batches(rows: list[Experience], args: Any, ranks: int, pad: int) -> list[Experience]:
    """The rows of a rollout batch as batches of one forward pass each; `index` tells a row's place.

    Args:
        rows: one-row Experiences.
        args: OpenRLHF's flags; static batches of rollout.micro_batch_size rows, or dynamic ones of about
            rollout.max_tokens_per_gpu tokens, as many as the ranks can share evenly.
        ranks: number that the passes are shared between.
        pad: token id that fills rows up.
    """
    for place, row in enumerate(rows):
        row.index = [place]
    width = args.rollout.micro_batch_size
    parts = [range(start, min(start + width, len(rows))) for start in range(0, len(rows), width)]
    if args.train.dynamic_batch_enable:
        lengths = [int(row.attention_mask.sum()) for row in rows]
        limit = (args.rollout.max_tokens_per_gpu, args.ds.ring_attn_size, args.ds.tensor_parallel_size)
        count = get_minimum_num_micro_batch_size(lengths, *limit)
        parts = get_seqlen_balanced_partitions(lengths, min(count + -count % ranks, len(rows)), False)
    return [Experience.concat_experiences([rows[place] for place in part], pad) for part in parts]


def filled(batches: list[Experience], ranks: int) -> list[Experience]:
    """The forward batches and, behind them, blank rows until their number is a multiple of `ranks`.

    ZeRO-3 gathers weights in every pass: a rank that makes one more than the others waits for them for ever.
    """
    shortest = min(batches, key=lambda batch: batch.sequences.shape[1])
    return batches + [blank(single_rows(shortest)[0]) for _ in range(-len(batches) % ranks)]


def shuffled(experiences: list[Experience], seed: int) -> list[Experience]:
    """All rows of a rollout batch, one by one, in an order that depends on their places in the batch and the seed."""
    places = [place for experience in experiences for place in experience.index]
    rows = dict(zip(places, (row for batch in experiences for row in single_rows(batch)), strict=True))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[place] for place in order]


def deal(rows: list[Experience], step_rows: int, ranks: int) -> list[Experience]:
    """The rows in the order in which equal consecutive shares of them go to the ranks.

    Args:
        rows: one-row Experiences; every `step_rows` in a row form an optimizer step, the last may be cut short.
        step_rows: rows of an optimizer step over all ranks; a multiple of `ranks`.
        ranks: data-parallel ranks.

    Returns:
        One-row Experiences; rank r gets the r-th share, whose step_rows / ranks rows per optimizer step lie together.
    """
    shares: list[list[Experience]] = [[] for _ in range(ranks)]
    for start in range(0, len(rows), step_rows):
        step = rows[start : start + step_rows]
        step += [blank(step[0])] * (-len(step) % ranks)
        lengths = [int(row.attention_mask.sum()) for row in step]
        for share, part in zip(shares, get_seqlen_balanced_partitions(lengths, ranks, True), strict=True):
            share += [step[index] for index in sorted(part)]
    return [row for share in shares for row in share]


def micro_batches(rows: list[Experience], args: Any, group: dist.ProcessGroup) -> list[list[list[Experience]]]:
    """The rows of this rank as optimizer steps of micro-batches.

    Args:
        rows: single rows without padding, as deal() ordered them.
        args: OpenRLHF's flags; static micro-batches of train.micro_batch_size rows, or dynamic ones of at most
            train.max_tokens_per_gpu tokens.
        group: the data-parallel ranks; all of them have to call this.
    """
    size = args.train.batch_size // dist.get_world_size(group)
    steps = [rows[start : start + size] for start in range(0, len(rows), size)]
    if not args.train.dynamic_batch_enable:
        width = args.train.micro_batch_size
        return [[step[start : start + width] for start in range(0, len(step), width)] for step in steps]
    lengths = [[int(row.attention_mask.sum()) for row in step] for step in steps]
    limit = (args.train.max_tokens_per_gpu, args.ds.ring_attn_size, args.ds.tensor_parallel_size)
    counts = torch.tensor([get_minimum_num_micro_batch_size(step, *limit) for step in lengths])
    counts = counts.to(torch.cuda.current_device())  # the platform's, which on a CPU answers with that
    dist.all_reduce(counts, op=dist.ReduceOp.MAX, group=group)
    plan = []
    for step, of_step, count in zip(steps, lengths, counts.tolist(), strict=True):
        parts = get_seqlen_balanced_partitions(of_step, min(count, len(step)), False)
        batches = [[step[index] for index in sorted(part)] for part in parts]
        plan.append(batches + [[blank(step[0])]] * (count - len(batches)))
    return plan
