"""Two evaluations of the same problems: what the difference is, and whether chance explains it.

    gain       mean over problems of (share right now - share right before)
    interval   2.5 % and 97.5 % quantiles of the gain over 20,000 resamples; a problem is drawn with both its shares
    p          twice the smaller share of resamples at or beyond 0 on either side, at most 1

Of several benchmarks each is resampled by itself, and the gain of a column is the mean of theirs: the problems of AIME
do not stand in for those of MATH. Source: Efron 1979; the number of resamples as in arXiv 2609.04108.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from openrlhf_prefix.evaluation import benchmarks

RESAMPLES = 20_000
BLOCK = 2**22  # drawn indices that are held at once
Shares = Mapping[str, float]  # problem -> share of its samples that are right


@dataclass(frozen=True)
class Gain:
    """One row of a comparison. Wins and losses count problems; a column of several benchmarks sums them."""

    name: str
    problems: int
    base: float
    now: float
    gain: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int

    def row(self) -> dict[str, Any]:
        return asdict(self)


def resampled_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples,) means of resamples with replacement of (problems,) values."""
    rng, rows = np.random.default_rng(seed), max(1, BLOCK // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(1) for size in sizes])


def compare(now: Mapping[str, Shares], base: Mapping[str, Shares], seed: int = 0) -> list[Gain]:
    """A row for every task, then one for every column all of whose benchmarks are there.

    Args:
        now, base: the shares of each task's problems, the same tasks and problems in both.

    Raises:
        ValueError: they are not the same.
    """
    rows, pairs, draws = [], {}, {}
    for index, (task, shares) in enumerate(now.items()):
        if shares.keys() != base.get(task, {}).keys():
            raise ValueError(f"{task}: the problems differ")
        pairs[task] = np.array([[base[task][problem], share] for problem, share in shares.items()])
        draws[task] = resampled_means(pairs[task][:, 1] - pairs[task][:, 0], seed=seed + index)
        rows.append(_gain(task, [pairs[task]], draws[task]))
    known = {name: task for task in pairs if (name := benchmarks.known(task))}
    for column in (benchmarks.SIX, benchmarks.THREE):
        members = [name for name, benchmark in benchmarks.BENCHMARKS.items() if benchmark.column == column]
        if all(name in known for name in members):
            tasks = [known[name] for name in members]
            rows.append(_gain(column, [pairs[task] for task in tasks], np.mean([draws[task] for task in tasks], 0)))
    return rows


def _gain(name: str, pairs: Sequence[np.ndarray], drawn: np.ndarray) -> Gain:
    before, after = np.mean([pair.mean(0) for pair in pairs], 0)
    differences = np.concatenate([pair[:, 1] - pair[:, 0] for pair in pairs])
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    counts = [int(found.sum()) for found in (differences > 0, differences == 0, differences < 0)]
    base, now = float(before), float(after)
    p = min(1.0, 2 * float(tail))
    return Gain(name, len(differences), base, now, now - base, float(low), float(high), p, *counts)


def table(rows: Sequence[Gain]) -> str:
    """The rows for a person, in per cent."""
    lines = [f"{'':<16} problems   base    now            gain [95 %]      p   won  equal   lost"]
    lines += [
        f"{row.name:<16} {row.problems:>8} {row.base:>6.1%} {row.now:>6.1%} "
        f"{row.gain:>+7.1%} [{row.low:>+6.1%}, {row.high:>+6.1%}] {row.p:>6.3f} "
        f"{row.wins:>5} {row.ties:>6} {row.losses:>6}"
        for row in rows
    ]
    return "\n".join(lines)
