"""What the lines of results.jsonl say together: chosen learning rates, means and intervals over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openrlhf_prefix.comparison.plan import BASE, TUNE, Plan, Run
from openrlhf_prefix.comparison.results import Line
from openrlhf_prefix.evaluation.intervals import mean_interval

Estimate = tuple[float, float | None]  # mean over seeds, and half the width of its 95 % interval
Lines = Mapping[str, Line]  # name of the run -> its line, finished runs alone


def tuning_scores(plan: Plan, lines: Lines, task: str, method: str) -> dict[float, float | None]:
    """Learning rate -> accuracy on the problems for tuning; None where the run failed or is still to come."""
    runs = [Run(TUNE, task, method, lr, plan.tuning_seed) for lr in plan.grid(task)]
    return {run.lr: lines[run.name]["curve"][-1][1] if run.name in lines else None for run in runs}


def choose_rate(plan: Plan, lines: Lines, task: str, method: str) -> float | None:
    """The learning rate of the method's final runs: the best, of equal ones the smallest; None if all failed."""
    if not plan.tuned(task):
        return plan.grid(task)[0]
    scores = {lr: score for lr, score in tuning_scores(plan, lines, task, method).items() if score is not None}
    return max(scores, key=lambda lr: (scores[lr], -lr), default=None)


@dataclass(frozen=True)
class Entry:
    """One method on one task: its finished final runs at the chosen learning rate. The base has one line, no rate."""

    method: str
    lr: float | None
    lines: Sequence[Line]

    def estimate(self, value: Callable[[Line], float]) -> Estimate:
        """Of one number of every run."""
        return mean_interval([value(line) for line in self.lines])

    def accuracy(self, name: str) -> Estimate:
        return self.estimate(lambda line: line["sets"][name]["avg"])

    def passed(self, name: str, k: int) -> Estimate:
        return self.estimate(lambda line: line["sets"][name]["pass"][str(k)])

    def curve(self) -> list[tuple[int, Estimate]]:
        """(step, accuracy on the first held-out set) of the steps that all runs were evaluated at."""
        curves = [dict(map(tuple, line["curve"])) for line in self.lines]
        steps = sorted(set.intersection(*map(set, curves)))
        return [(step, mean_interval([curve[step] for curve in curves])) for step in steps]


def entries(plan: Plan, lines: Lines, task: str) -> list[Entry]:
    """The base model, then the methods from the best mean accuracy on the first held-out set to the worst."""
    first = next(iter(plan.tasks[task].sets))
    methods = []
    for method in plan.compared(task):
        lr = choose_rate(plan, lines, task, method)
        runs = [] if lr is None else plan.final(task, method, lr)
        found = [lines[run.name] for run in runs if run.name in lines]
        if found:
            methods.append(Entry(method, lr, found))
    methods.sort(key=lambda entry: -entry.accuracy(first)[0])
    base = Run(BASE, task).name
    return [Entry(BASE, None, [lines[base]]), *methods] if base in lines else methods


def missing(plan: Plan, lines: Lines) -> list[str]:
    """Runs without a finished line, in words."""
    names = [run.name for run in [*plan.bases(), *plan.tuning()]]
    for task in plan.tasks:
        for method in plan.compared(task):
            lr = choose_rate(plan, lines, task, method)
            if lr is None:
                names.append(f"{task}-{method}: no learning rate to train at")
            else:
                names += [run.name for run in plan.final(task, method, lr)]
    return [name for name in names if name not in lines]
