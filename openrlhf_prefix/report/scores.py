"""Held-out scores of a run: base, best and last with their intervals, and a curve with a band.

    in the table   percentile bootstrap over problems, as in the lines of a run (evaluation/intervals.py)
    in the curve   mean +- 1.96 s / sqrt(problems), cut to [0, 1]: a run may have thousands of evaluations

Best is the step with the highest mean of pass1 over sources. It was chosen by looking at these scores, so its own is a
little too high; the page says so.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from openrlhf_prefix.evaluation import held_out
from openrlhf_prefix.evaluation.held_out import Tally
from openrlhf_prefix.evaluation.intervals import bootstrap_interval
from openrlhf_prefix.evaluation.metrics import pass_chances
from openrlhf_prefix.report.reading import Run

Z = 1.96


def scores(run: Run) -> dict[str, Any]:
    """{"metrics": [{"name", "base", "best", "last", "gain"}], "best_step", "last_step", "curves": {name: points}}.

    A score is [value, low, high]; without evaluations.jsonl, as in older runs, it is [value, None, None]. Nothing
    was evaluated: an empty dictionary.
    """
    tallies, samples = _tallies(run)
    measured: dict[int, dict[str, list[float | None]]] = {}
    for row in run.beside:
        for name, value in row.items():
            if name.startswith("eval_") and "_pass" in name:
                measured.setdefault(row["step"], {})[name] = [value, None, None]
    for step, of_step in tallies.items():
        measured.setdefault(step, {}).update({name: band(v) for name, v in chances(of_step, samples).items()})
    if not measured:
        return {}
    steps = sorted(measured)
    best, last = max(steps, key=lambda step: (_mean_of_sources(measured[step]), -step)), steps[-1]
    names = sorted({name for of_step in measured.values() for name in of_step})
    exact = {step: _exact(measured[step], tallies.get(step, []), samples) for step in {steps[0], best, last}}
    gains = held_out.gains(tallies.get(steps[0], []), tallies.get(last, []), samples) if last > steps[0] else {}
    return {
        "metrics": [
            {
                "name": name.removeprefix("eval_"),
                "base": exact[steps[0]].get(name) if steps[0] == 0 else None,
                "best": exact[best].get(name),
                "last": exact[last].get(name),
                "gain": gains.get(name) if steps[0] == 0 else None,
            }
            for name in names
        ],
        "problems": sum(len(one.problems) for one in tallies.get(last, [])) or None,
        "samples": samples if tallies else None,
        "best_step": best,
        "last_step": last,
        "curves": {name.removeprefix("eval_"): _points(measured, name) for name in names},
    }


def _tallies(run: Run) -> tuple[dict[int, list[Tally]], int]:
    """Those that can be read, and the samples of a problem."""
    found: dict[int, list[Tally]] = {}
    wrong = 0
    for row in run.evaluations:
        try:
            tallies = held_out.read([row])[row["step"]]
            chances(tallies, 1)
        except (KeyError, TypeError, ValueError):
            wrong += 1
        else:
            found.setdefault(row["step"], []).extend(tallies)
    if wrong:
        run.notes.append(f"evaluations.jsonl: {wrong} line(s) of another form are left out")
    judged = [count for of_step in found.values() for one in of_step for count in one.judged]
    samples = run.flags.get("eval.n_samples_per_prompt")
    return found, samples if isinstance(samples, int) and samples > 0 else max(judged, default=1)


def chances(tallies: Sequence[Tally], samples: int) -> dict[str, list[float]]:
    """Scores of the problems that have so many samples, by metric, as held_out has them; a run has the same few counts
    over and over."""
    found = {
        f"eval_{one.source}_pass{k}": [
            _chance(correct, judged, k) for correct, judged in zip(one.correct, one.judged, strict=True) if judged >= k
        ]
        for one in tallies
        for k in (1, samples)
    }
    return {name: values for name, values in found.items() if values}


@lru_cache(maxsize=10_000)
def _chance(correct: int, judged: int, k: int) -> float:
    return pass_chances([correct], judged, k)[0]


def band(values: Sequence[float]) -> list[float | None]:
    """Mean of the problems' scores, and its interval by the normal distribution.

    Example: 0 and 1 have s = 0.707, so 0.5 +- 1.96 x 0.5 is cut to [0, 1].
    """
    mean = statistics.fmean(values)
    half = Z * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    low, high = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
    return [value if value is None else round(value, 5) for value in (mean, low, high)]


def _exact(row: Mapping[str, list[float | None]], tallies: Sequence[Tally], samples: int) -> dict[str, list]:
    found: dict[str, list] = dict(row)
    for name, values in chances(tallies, samples).items():
        found[name] = [statistics.fmean(values), *bootstrap_interval(values)]
    return found


def _mean_of_sources(row: Mapping[str, list[float | None]]) -> float:
    values = [score[0] for name, score in row.items() if name.endswith("_pass1") and score[0] is not None]
    return statistics.fmean(values) if values else 0.0


def _points(measured: Mapping[int, Mapping[str, list]], name: str) -> dict[str, list]:
    steps = [step for step in sorted(measured) if name in measured[step]]
    columns = zip(*(measured[step][name] for step in steps), strict=True)
    return {"steps": steps, **dict(zip(("values", "low", "high"), map(list, columns), strict=True))}
