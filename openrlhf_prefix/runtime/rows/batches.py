"""How the rows of a rollout batch become optimizer steps, ranks and micro-batches.

    rollout batch --(seeded shuffle)--> optimizer steps --(balanced by length)--> ranks --> micro-batches

The first two happen in the controller, so that what an optimizer step holds does not depend on the number of ranks.
There the rows of a step are counted, and then those without a gradient leave it: the counts are the loss's divisors.
Every rank gets the same number of rows and of micro-batches, and of forward batches before them, because ZeRO-3
gathers weights in each of them: what is missing is filled with blank rows, which have no action token and count for
nothing. Rows of similar length share a batch, so that little of it is padding.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import compress, groupby
from typing import Any

import torch
import torch.distributed as dist
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.utils.seqlen_balancing import get_minimum_num_micro_batch_size, get_seqlen_balanced_partitions

from openrlhf_prefix.algorithm.hybrid import StepCounts, taught
from openrlhf_prefix.runtime.rows.fields import length_of, prefix_mask_of, teacher_of

STEP, COUNTS = "optimizer_step", "step_counts"  # entries of a dealt row's info


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
    """A row that trains nothing: the first two tokens of `row`, none of them an action."""
    copy = Experience(**{field.name: getattr(row, field.name) for field in fields(Experience)})
    for name, value in vars(row).items():
        if isinstance(value, torch.Tensor) and Experience.is_step_tensor_field(name):
            setattr(copy, name, value[..., : 2 - (row.sequences.shape[-1] - value.shape[-1])])
    copy.action_mask = torch.zeros_like(copy.action_mask)
    return copy


def forward_batches(rows: list[Experience], args: Any, ranks: int, pad: int) -> list[Experience]:
    """The rows of a rollout batch as batches of one forward pass each, dealt out to the ranks in turn.

    Args:
        rows: one-row Experiences; `index` tells a row's place.
        args: OpenRLHF's flags; static batches of rollout.micro_batch_size rows, or dynamic ones of about
            rollout.max_tokens_per_gpu tokens, as many as the ranks can share evenly.
        ranks: number that the passes are shared between.
        pad: token id that fills rows up.
    """
    if not rows:
        return []
    if args.train.dynamic_batch_enable:
        lengths = [length_of(row) for row in rows]
        limit = (args.rollout.max_tokens_per_gpu, args.ds.ring_attn_size, args.ds.tensor_parallel_size)
        count = get_minimum_num_micro_batch_size(lengths, *limit)
        parts = get_seqlen_balanced_partitions(lengths, min(count + -count % ranks, len(rows)), False)
        batches = [[rows[place] for place in part] for part in parts]
    else:
        batches = of_similar_length(rows, args.rollout.micro_batch_size)
    in_turn = [batch for rank in range(ranks) for batch in batches[rank::ranks]]
    return [Experience.concat_experiences(batch, pad) for batch in in_turn]


def of_similar_length(rows: list[Experience], width: int) -> list[list[Experience]]:
    """The rows in batches of `width`, the longest first; the last batch may be cut short."""
    ordered = sorted(rows, key=length_of, reverse=True)
    return [ordered[start : start + width] for start in range(0, len(ordered), width)]


def filled(batches: list[Experience], ranks: int) -> list[Experience]:
    """The forward batches and, behind them, blank rows until their number is a multiple of `ranks`.

    ZeRO-3 gathers weights in every pass: a rank that makes one more than the others waits for them for ever.
    """
    return batches + [blank(single_rows(batches[-1])[0]) for _ in range(-len(batches) % ranks)]


def shuffled(experiences: list[Experience], seed: int) -> list[Experience]:
    """All rows of a rollout batch, one by one, in an order that depends on their places in the batch and the seed."""
    places = [place for experience in experiences for place in experience.index]
    rows = dict(zip(places, (row for batch in experiences for row in single_rows(batch)), strict=True))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[place] for place in order]


def deal(rows: list[Experience], step_rows: int, ranks: int, trained: Sequence[bool]) -> list[Experience]:
    """The rows that train something, in the order in which equal consecutive shares of them go to the ranks.

    A step with nothing to train keeps a blank row on every rank: the optimizer has its moments to apply.

    Args:
        rows: one-row Experiences; every `step_rows` in a row form an optimizer step, the last may be cut short.
        step_rows: rows of an optimizer step over all ranks; a multiple of `ranks`.
        ranks: data-parallel ranks.
        trained: for each row, whether it has a gradient (loss.trains).

    Returns:
        One-row Experiences; rank r gets the r-th share, whose rows of an optimizer step lie together. Each row's info
        has the number of its step and the counts of the whole step.
    """
    shares: list[list[Experience]] = [[] for _ in range(ranks)]
    for number, start in enumerate(range(0, len(rows), step_rows)):
        step = rows[start : start + step_rows]
        kept = list(compress(step, trained[start : start + step_rows]))
        told = {STEP: torch.tensor([number]), COUNTS: torch.tensor([[*_counted(step), len(kept)]])}
        kept += [blank(step[0])] * (-len(kept) % ranks if kept else ranks)
        for row in kept:
            row.info = row.info | told
        parts = get_seqlen_balanced_partitions([length_of(row) for row in kept], ranks, True)
        for share, part in zip(shares, parts, strict=True):
            share += [kept[index] for index in sorted(part)]
    return [row for share in shares for row in share]


def _counted(step: list[Experience]) -> tuple[int, int, int, int]:
    """Rows with an action token, action tokens, sampled tokens, and tokens that a teacher acts on."""
    action = sum(int(row.action_mask.sum()) for row in step)
    prefix = sum(int(prefix_mask_of(row).sum()) for row in step)
    judged = [(row, teacher) for row in step if (teacher := teacher_of(row)) is not None]
    count = sum(int(taught(teacher, row.action_mask.bool(), prefix_mask_of(row)).sum()) for row, teacher in judged)
    return sum(bool(row.action_mask.any()) for row in step), action, action - prefix, count


def counts_of(step: list[list[Experience]]) -> StepCounts:
    """The counts of a whole optimizer step, over all ranks and the rows that left it, as deal() wrote them down."""
    rows, tokens, sampled, count, trained = map(float, step[0][0].info[COUNTS].tolist())
    return StepCounts(rows, tokens, sampled, trained, count)


def optimizer_steps(rows: list[Experience]) -> list[list[Experience]]:
    """The rows of this rank by their optimizer steps, as deal() ordered them."""
    return [list(step) for _, step in groupby(rows, key=lambda row: int(row.info[STEP]))]


def micro_batches(steps: list[list[Experience]], args: Any, group: dist.ProcessGroup) -> list[list[list[Experience]]]:
    """The rows of each optimizer step of this rank in micro-batches, as many on every rank.

    Args:
        steps: single rows without padding, at least one of each step.
        args: OpenRLHF's flags; static micro-batches of train.micro_batch_size rows, or dynamic ones of at most
            train.max_tokens_per_gpu tokens.
        group: the data-parallel ranks; all of them have to call this.
    """
    lengths = [[length_of(row) for row in step] for step in steps]
    if args.train.dynamic_batch_enable:
        limit = (args.train.max_tokens_per_gpu, args.ds.ring_attn_size, args.ds.tensor_parallel_size)
        counts = torch.tensor([get_minimum_num_micro_batch_size(step, *limit) for step in lengths])
    else:
        counts = torch.tensor([math.ceil(len(step) / args.train.micro_batch_size) for step in steps])
    counts = counts.to(torch.cuda.current_device())  # the platform's, which on a CPU answers with that
    dist.all_reduce(counts, op=dist.ReduceOp.MAX, group=group)
    plan = []
    for step, of_step, count in zip(steps, lengths, counts.tolist(), strict=True):
        if args.train.dynamic_batch_enable:
            parts = get_seqlen_balanced_partitions(of_step, min(count, len(step)), False)
            batches = [[step[index] for index in sorted(part)] for part in parts]
        else:
            batches = of_similar_length(step, args.train.micro_batch_size)
        plan.append(batches + [[blank(step[0])]] * (count - len(batches)))
    return plan
