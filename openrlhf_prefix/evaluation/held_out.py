"""One evaluation of the held-out problems, and what training gained between two of them, problem by problem.

    score      pass@k of a problem, of the samples that have a reward; pass@1 is their mean, avg@n
    gain       mean over problems of (score after - score before)
    interval   percentile bootstrap of those differences: a problem is drawn with both its scores

A sample whose reward failed says nothing about the model, and leaves the score: an outage of a reward server must not
look like a bad checkpoint. A problem with fewer than k samples left has no pass@k.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from openrlhf_prefix.evaluation.intervals import bootstrap_interval
from openrlhf_prefix.evaluation.metrics import pass_chances


@dataclass(frozen=True)
class Tally:
    """What one source's problems came to.

    Example: Tally("chains", ("chains-0", "chains-1"), (3, 0), (4, 2)): of the second problem two samples have no
    reward.
    """

    source: str
    problems: tuple[str, ...]
    correct: tuple[int, ...]
    judged: tuple[int, ...]  # samples with a reward

    def chances(self, k: int) -> dict[str, float]:
        """pass@k of every problem that has k samples."""
        rows = zip(self.problems, self.correct, self.judged, strict=True)
        return {problem: pass_chances([correct], judged, k)[0] for problem, correct, judged in rows if judged >= k}

    def row(self, step: int) -> dict[str, Any]:
        """As evaluations.jsonl has it."""
        return {"step": step, **asdict(self)}


def tally(problems: Sequence[tuple[str, str]], rewards: Sequence[Sequence[float | None]]) -> list[Tally]:
    """By source, in the order of their first problem.

    Args:
        problems: (id, source) of each.
        rewards: of each problem's samples, None where it failed.
    """
    found: dict[str, list[tuple[str, int, int]]] = {}
    for (problem, source), values in zip(problems, rewards, strict=True):
        known = [value for value in values if value is not None]
        found.setdefault(source, []).append((problem, sum(value > 0 for value in known), len(known)))
    return [Tally(source, *zip(*rows, strict=True)) for source, rows in found.items()]


def read(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Tally]]:
    """The tallies of every step, from rows of evaluations.jsonl."""
    found: dict[int, list[Tally]] = {}
    for row in rows:
        counts = (tuple(row[name]) for name in ("problems", "correct", "judged"))
        found.setdefault(row["step"], []).append(Tally(row["source"], *counts))
    return found


def accuracies(tallies: Iterable[Tally], samples: int) -> dict[str, float]:
    """{"eval_chains_pass1": avg@n, "eval_chains_pass4": ...}, OpenRLHF's names; without sources that have no score."""
    found = chances(tallies, samples)
    return {name: sum(values.values()) / len(values) for name, values in found.items()}


def gains(before: Iterable[Tally], after: Iterable[Tally], samples: int) -> dict[str, tuple[float, float, float]]:
    """(gain, low, high) of each metric, over the problems that have a score in both."""
    base, found = chances(before, samples), {}
    for name, values in chances(after, samples).items():
        both = [value - base[name][problem] for problem, value in values.items() if problem in base.get(name, {})]
        if both:
            found[name] = (sum(both) / len(both), *bootstrap_interval(both))
    return found


def chances(tallies: Iterable[Tally], samples: int) -> dict[str, dict[str, float]]:
    """pass@1 and pass@n of every problem, by metric; without metrics that no problem has."""
    found = {f"eval_{one.source}_pass{k}": one.chances(k) for one in tallies for k in (1, samples)}
    return {name: values for name, values in found.items() if values}
