"""What a model no longer can: the measures of continual learning, over a sequence of evaluations of the same tasks.

    P[t, j]   score of task j at evaluation t; the last one, T, is the model now
    AvgAcc    mean over tasks of P[T, j]
    FM        mean over earlier tasks of P[T, j] - max over t <= T of P[t, j]: at most 0

An earlier task is any that the newest training was not for. Example: P = [[.8, .1], [.7, .6]], the second task learned
last: FM = .7 - .8 = -.1, AvgAcc = (.7 + .6) / 2 = .65. Source: arXiv 2507.05386. Beside them stands KL(base || now) on
the training's own prompts, which predicts forgetting (arXiv 2509.04259; runtime/evaluate/divergence.py computes it).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    now: float
    best: float  # of all evaluations, this one included
    learned: bool  # the newest training was for it

    @property
    def lost(self) -> float:
        """now - best, at most 0."""
        return self.now - self.best


@dataclass(frozen=True)
class Forgetting:
    tasks: dict[str, Task]
    average: float  # AvgAcc
    forgetting: float | None  # FM; None where every task was learned last

    def row(self) -> dict[str, Any]:
        tasks = {name: {**asdict(task), "lost": task.lost} for name, task in self.tasks.items()}
        return {"AvgAcc": self.average, "FM": self.forgetting, "tasks": tasks}

    def text(self) -> str:
        """For a person, in per cent."""
        lines = [f"{'':<16}    now   best   lost"]
        lines += [
            f"{name:<16} {task.now:>6.1%} {task.best:>6.1%} {task.lost:>+6.1%}" + " (learned)" * task.learned
            for name, task in self.tasks.items()
        ]
        known = "" if self.forgetting is None else f", FM {self.forgetting:+.1%}"
        return "\n".join([*lines, f"AvgAcc {self.average:.1%}{known}"])


def forgetting(history: Sequence[Mapping[str, float]], learned: Collection[str] = ()) -> Forgetting:
    """The report of evaluations in their order, the model now the last.

    Args:
        history: scores by task; all have the tasks of the last one.
        learned: tasks that the newest training was for.

    Raises:
        ValueError: no evaluation, or one without a task of the last one.
    """
    if not history or not history[-1]:
        raise ValueError("nothing was evaluated")
    if missing := sorted(name for name in history[-1] if any(name not in scores for scores in history)):
        raise ValueError(f"not every evaluation has {', '.join(missing)}")
    tasks = {
        name: Task(now, max(scores[name] for scores in history), name in learned) for name, now in history[-1].items()
    }
    lost = [task.lost for task in tasks.values() if not task.learned]
    average = sum(task.now for task in tasks.values()) / len(tasks)
    return Forgetting(tasks, average, sum(lost) / len(lost) if lost else None)
