"""Which weights train: a share of them, chosen once by a score of how much a set of examples needs each.

With w a weight, g_i the gradient of example i's loss (the mean of -log p over its demonstration), g the mean of g_i:

    magnitude   |w|               no example is needed
    gradient    |g|
    snip        |w g|             SNIP: what a removal changes
    force       -w g              FORCE: what a removal adds to the loss, with its sign
    taylor      (w g)^2           first-order Taylor; ranks as snip does
    fisher      mean_i g_i^2      of every example by itself

The round(share N) weights of the highest score train, over all scored weights of the model (N), and nothing else does.
Source: SPEFT, arXiv 2412.13488, and its code. `retain_freeze` turns it round: the highest |g| of examples whose
abilities are to be kept stay as they are, and everything else trains (after arXiv 2410.03833, a derivation).

A threshold over ranks is found by counting: the bits of an fp32 number, read as an integer, keep its order, so that
32 questions "how many reach this?" find the lowest score that is in. Of equal scores the first by index are taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

BITS = torch.arange(8, dtype=torch.uint8)
CHUNK = 2**24  # weights whose decay is computed at once


@dataclass(frozen=True)
class Score:
    """A row of the table."""

    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (n,) weights and means -> scores, higher: needed more
    each: Callable[[torch.Tensor], torch.Tensor] | None = None  # of a g_i, whose mean is asked for; None: no example
    share: float = 0.01  # where the flags do not say
    freezes: bool = False  # the highest are those that do not train


def _itself(gradient: torch.Tensor) -> torch.Tensor:
    return gradient


SCORES: dict[str, Score] = {
    "magnitude": Score(lambda w, _: w.abs()),
    "gradient": Score(lambda _, g: g.abs(), _itself),
    "snip": Score(lambda w, g: (w * g).abs(), _itself),
    "force": Score(lambda w, g: -w * g, _itself),
    "taylor": Score(lambda w, g: (w * g) ** 2, _itself),
    "fisher": Score(lambda _, square: square, torch.square),
    "retain_freeze": Score(lambda _, g: g.abs(), _itself, share=0.1, freezes=True),
}


def needs_examples(method: str | None) -> bool:
    """Whether demonstrations are passed through the model for it; None: there is no mask."""
    return method is not None and SCORES[method].each is not None


def ordered(scores: torch.Tensor) -> torch.Tensor:
    """(n,) int32 in the order of the fp32 scores; -0.0 and 0.0 are one."""
    bits = (scores.float() + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def highest(
    scores: Sequence[torch.Tensor], firsts: Sequence[int], count: int, total: Callable[[int], int]
) -> list[torch.Tensor]:
    """The `count` highest scores of all ranks, exactly as many.

    Args:
        scores: of this rank, (n,) each, finite.
        firsts: index of the first element of each among the weights of all ranks, whose others follow it.
        count: at least 1, and at most the number of scores of all ranks.
        total: the sum of an integer over all ranks, which all have to ask for alike.

    Returns:
        (n,) bool for each of `scores`.
    """
    keys = [ordered(part) for part in scores]
    lowest = _last(lambda key: total(sum(int((part >= key).sum()) for part in keys)) >= count, -(2**31), 2**31)
    ties = count - total(sum(int((part > lowest).sum()) for part in keys))
    tied = [part == lowest for part in keys]

    def before(end: int) -> int:
        """Ties of all ranks with an index below `end`."""
        parts = zip(tied, firsts, strict=True)
        return total(sum(int(part[: max(end - first, 0)].sum()) for part, first in parts))

    reach = total(max((first + len(part) for part, first in zip(tied, firsts, strict=True)), default=0))
    end = _last(lambda end: before(end) <= ties, 0, reach + 1)
    for part, first in zip(tied, firsts, strict=True):
        part[max(end - first, 0) :] = False
    return [(key > lowest) | part for key, part in zip(keys, tied, strict=True)]


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last integer of [low, high) at which it holds; it does at `low`, and never again once it does not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def decay(weights: torch.Tensor, mask: torch.Tensor, kept: float) -> None:
    """Multiplies (n,) weights by `kept` in place, inside the (n,) mask alone; outside no bit changes."""
    for part, inside in zip(weights.split(CHUNK), mask.split(CHUNK), strict=True):
        part.mul_(torch.where(inside, kept, 1.0))


def packed(mask: torch.Tensor) -> torch.Tensor:
    """(ceil(n / 8),) uint8 of an (n,) bool mask: element 8 j + i is bit i of byte j."""
    bits = functional.pad(mask.to(torch.uint8), (0, -len(mask) % 8)).view(-1, 8)
    return (bits << BITS.to(mask.device)).sum(-1, dtype=torch.uint8)


def unpacked(packs: torch.Tensor, length: int) -> torch.Tensor:
    """The (length,) mask that packed() was given."""
    return ((packs.unsqueeze(-1) >> BITS.to(packs.device)) & 1).bool().flatten()[:length]
