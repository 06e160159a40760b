"""What is compared: the file of a comparison, and the runs that it asks for.

tune    every task x method x learning rate, one seed, scored on problems that nothing else uses
final   every task x method x seed, at the learning rate that scored best
base    every task's model before training
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings.config import flatten, load_mapping

TUNE, FINAL, BASE = "tune", "final", "base"
MIN_SEEDS = 3
Flags = dict[str, Any]  # dotted name -> value


@dataclass(frozen=True)
class Task:
    """A family of problems with its base model."""

    tune: str  # file of problems on which learning rates are chosen
    sets: dict[str, str]  # name -> file of held-out problems; the curves are over the first one
    flags: Flags = field(default_factory=dict)  # of every run on it
    methods: list[str] = field(default_factory=list)  # those that are compared on it; none named: all
    learning_rates: list[float] = field(default_factory=list)  # its grid; none: the plan's


@dataclass(frozen=True)
class Run:
    """One training, or the evaluation of the base model (method, lr and seed are then None)."""

    stage: str
    task: str
    method: str | None = None
    lr: float | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Folder and key of the run.

        Example: chains-prefix_rft-lr2e-4-seed1, or with the stage of tuning chains-prefix_rft-lr2e-4-tune0.
        """
        if self.stage == BASE:
            return f"{self.task}-base"
        return f"{self.task}-{self.method}-lr{rate(self.lr)}-{'tune' if self.stage == TUNE else 'seed'}{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The file of a comparison, field by field."""

    train: str  # config file of every training
    tasks: dict[str, Task]
    methods: dict[str, Flags]  # label -> flags; hybrid.preset is the label where it is not given
    learning_rates: list[float]  # the grid, the same for every method of a task; with one alone nothing is tuned
    seeds: list[int]
    tuning_seed: int = 0
    flags: Flags = field(default_factory=dict)  # of every training
    tuning_flags: Flags = field(default_factory=dict)  # of tuning runs, beside those
    samples: int = 64  # responses to every problem in the final evaluation
    ks: list[int] = field(default_factory=lambda: [1, 4, 16, 64])
    problems: int | None = None  # of every held-out set, the first ones; None: all
    panels: dict[str, list[str]] = field(default_factory=dict)  # title -> methods of one panel of accuracy.png
    minutes: float = 120.0  # a command that takes longer is ended, and its run counts as failed
    few_seeds: bool = False  # allow fewer than three: quick tries, no result

    def compared(self, task: str) -> list[str]:
        """Labels of the methods that are compared on a task, in the order of the file."""
        return [label for label in self.methods if label in (self.tasks[task].methods or self.methods)]

    def grid(self, task: str) -> list[float]:
        """Learning rates that every method is tuned over on a task."""
        return self.tasks[task].learning_rates or self.learning_rates

    def tuned(self, task: str) -> bool:
        """Whether there is a choice among learning rates on it."""
        return len(self.grid(task)) > 1

    def tuning(self) -> list[Run]:
        return [
            Run(TUNE, task, method, lr, self.tuning_seed)
            for task in self.tasks
            if self.tuned(task)
            for method in self.compared(task)
            for lr in self.grid(task)
        ]

    def final(self, task: str, method: str, lr: float) -> list[Run]:
        """One method's runs at its chosen learning rate."""
        return [Run(FINAL, task, method, lr, seed) for seed in self.seeds]

    def bases(self) -> list[Run]:
        return [Run(BASE, task) for task in self.tasks]

    def finals(self) -> int:
        """How many final runs there will be."""
        return sum(len(self.compared(task)) for task in self.tasks) * len(self.seeds)


def rate(lr: float) -> str:
    """A learning rate as people write it: 2e-4, 1.5e-3."""
    return f"{Decimal(str(lr)).normalize():e}"


def read_plan(path: Path) -> Plan:
    """The comparison of a YAML file. Raises UserError, also where what it says cannot be compared."""
    content = _known(load_mapping(path), Plan, str(path))
    tasks = {
        name: Task(**_known(_mapping(task, f"tasks.{name}"), Task, f"tasks.{name}"))
        for name, task in _mapping(content["tasks"], "tasks").items()
    }
    content["tasks"] = {name: _normal(task, f"tasks.{name}") for name, task in tasks.items()}
    content["methods"] = {
        label: {"hybrid.preset": label, **flatten(flags or {})}
        for label, flags in _mapping(content["methods"], "methods").items()
    }
    content["learning_rates"] = _rates(content["learning_rates"], "learning_rates")
    for name in ("flags", "tuning_flags"):
        content[name] = flatten(content.get(name) or {})
    plan = Plan(**content)
    _check(plan)
    return plan


def _normal(task: Task, where: str) -> Task:
    rates = _rates(task.learning_rates, f"{where}.learning_rates")
    return replace(task, sets=_mapping(task.sets, "sets"), flags=flatten(task.flags or {}), learning_rates=rates)


def _known(content: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    """The mapping, all of whose keys are fields of `kind`, and which has those without a default."""
    names = {entry.name: entry for entry in fields(kind)}
    for key in content:
        _require(key, names, f"key in {where}")
    for name, entry in names.items():
        if name not in content and entry.default is MISSING and entry.default_factory is MISSING:
            raise UserError(f"{where} has no {name}: docs/65-compare.md shows a whole file")
    return dict(content)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"{where} must be a mapping of names, not {value!r}")
    return value


def _rates(values: Any, where: str) -> list[float]:
    if not isinstance(values, list):
        raise UserError(f"{where} must be a list of numbers, not {values!r}")
    return [_number(value, where) for value in values]


def _number(value: Any, where: str) -> float:
    try:
        return float(value)  # YAML takes 2e-4, without a point, for a text
    except (TypeError, ValueError):
        raise UserError(f"{where} holds {value!r}, which is no number") from None


def _check(plan: Plan) -> None:
    lists = {name: getattr(plan, name) for name in ("learning_rates", "seeds", "ks")}
    lists |= {f"tasks.{name}.learning_rates": plan.grid(name) for name in plan.tasks}
    for name, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise UserError(f"{name} is {values}: give at least one, and each once")
    if len(plan.seeds) < MIN_SEEDS and not plan.few_seeds:
        raise UserError(
            f"seeds is {plan.seeds}: a comparison needs at least {MIN_SEEDS}; set few_seeds to true for a quick try"
        )
    if plan.tuning_seed in plan.seeds and plan.tuning():
        raise UserError(
            f"tuning_seed {plan.tuning_seed} is one of the seeds: a method would be scored on the run it was chosen by"
        )
    if not all(1 <= k <= plan.samples for k in plan.ks):
        raise UserError(f"pass@k needs 1 <= k <= samples {plan.samples}: ks is {plan.ks}")
    named = {f"panels.{title}": labels for title, labels in plan.panels.items()}
    named |= {f"tasks.{name}.methods": task.methods for name, task in plan.tasks.items()}
    for where, labels in named.items():
        for label in labels:
            _require(label, plan.methods, f"method in {where}")


def _require(name: str, known: Iterable[str], what: str) -> None:
    if name not in known:
        raise UserError(f"unknown {what}: {name!r}; choose among {', '.join(known)}")
