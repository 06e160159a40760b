"""What an evaluation came to, in the form that lighteval's readers know, and as one line.

    {"config_general": settings, versions, seconds,
     "results": {"aime": {"problems": 30, "samples": 32, "avg@32": .294, "avg@32_stderr": .071, "pass@1": ..,
                          "pass@32": .., "truncated": .02, "unparsed": .01, "ungraded": 0, "tokens": 4010.3},
                 "mean of six": {"mean": .., "stderr": ..}},
     "problems": {"aime": {"aime-9f..": 11}}}

Standard errors are over problems. `truncated`, `unparsed` (no answer, or none that the grader can read) and `ungraded`
(the grader gave up in time or memory, which counts as wrong) are shares of samples; `problems` has right samples.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation import benchmarks
from openrlhf_prefix.evaluation.intervals import standard_error
from openrlhf_prefix.evaluation.metrics import pass_chances
from openrlhf_prefix.evaluation.paired import Shares
from openrlhf_prefix.evaluation.records import Verdict, read_json

UNPARSED = ("no_answer", "unparseable")
REWARDED = "rewarded"  # by a reward file, whatever it gave
GRADED = ("equal", "different", REWARDED, *UNPARSED)
Result = dict[str, Any]


def task_result(verdicts: Sequence[Sequence[Verdict]], ks: Sequence[int]) -> Result:
    """Numbers of one task; of each problem its samples, as many of every one."""
    samples = len(verdicts[0])
    correct = [sum(verdict.score > 0 for verdict in row) for row in verdicts]
    flat = [verdict for row in verdicts for verdict in row]
    result: Result = {"problems": len(correct), "samples": samples}
    for name, k in {benchmarks.metric(samples): 1, "pass@1": 1, **{f"pass@{k}": k for k in ks}}.items():
        chances = pass_chances(correct, samples, k)
        result |= {name: sum(chances) / len(chances), f"{name}_stderr": standard_error(chances)}
    result["truncated"] = fmean(verdict.finish == "length" for verdict in flat)
    result["unparsed"] = fmean(verdict.reason in UNPARSED for verdict in flat)
    result["ungraded"] = fmean(verdict.reason not in GRADED for verdict in flat)
    result["tokens"] = fmean(verdict.tokens for verdict in flat)
    return result


def headline(result: Result) -> tuple[float, float | None]:
    """(score, standard error) of a task by its own metric."""
    name = benchmarks.metric(result["samples"])
    return result[name], result[f"{name}_stderr"]


def with_means(results: Mapping[str, Result]) -> dict[str, Result]:
    """The tasks, and behind them the columns all of whose benchmarks are there."""
    scores = {name: headline(result) for task, result in results.items() if (name := benchmarks.known(task))}
    columns = {name: {"mean": mean, "stderr": error} for name, (mean, error) in benchmarks.means(scores).items()}
    return {**results, **columns}


def line(results: Mapping[str, Result]) -> str:
    """All tasks for a person: aime avg@32 29.4% +-7.1 | math pass@1 87.6% +-1.5 | mean of six 50.1% +-1.6."""
    parts = []
    for name, result in results.items():
        metric = "" if "mean" in result else f" {benchmarks.metric(result['samples'])}"
        value, error = (result["mean"], result["stderr"]) if "mean" in result else headline(result)
        parts.append(f"{name}{metric} {value:.1%}" + ("" if error is None else f" +-{100 * error:.1f}"))
    return " | ".join(parts)


def newest(path: Path) -> dict[str, Any]:
    """A results file, or the newest one of a folder. Raises UserError where there is none, or it is none."""
    if path.is_dir():
        files = sorted(path.glob("results_*.json"))
        if not files:
            raise UserError(f"{path} holds no results_*.json: evaluate into it with --output first")
        path = files[-1]
    found = read_json(path)
    if missing := [
        name for name in ("config_general", "results", "problems") if not isinstance(found.get(name), dict)
    ]:
        raise UserError(
            f"{path} is no file of results (it has no {', '.join(missing)}): evaluate writes one to --output"
        )
    return found


def shares(found: Mapping[str, Any]) -> dict[str, Shares]:
    """Task -> problem -> share of right samples, of a results file."""
    tasks = found["config_general"]["tasks"]
    return {
        task: {problem: correct / tasks[task]["samples"] for problem, correct in counts.items()}
        for task, counts in found["problems"].items()
    }
