"""What a user's reward may return, and the sentence that says what is wrong with it.

As in OpenRLHF, for one sample a time:

    {"rewards": 1.0, "scores": 1.0, "extra_logs": {"format": 0.5}}

`rewards` and `scores` are numbers, or lists (tensors) of exactly one; `scores` (default: the reward) is what dynamic
filtering and evaluation look at; `extra_logs` (optional) are averaged into the metrics.
"""

import ast
import math
from dataclasses import dataclass, field
from typing import Any


class RewardShape(ValueError):
    """The reward came back in a form that means nothing; the message says which, and what is expected."""


@dataclass(frozen=True)
class UserReward:
    reward: float
    score: float
    extra_logs: dict[str, float] = field(default_factory=dict)


def binds_reward_func(source: str) -> bool:
    """Whether a module gives the name reward_func to anything: a function, an import, an object; * may do so.

    Raises:
        SyntaxError: the source is no Python.
    """
    return any(_binds(statement) for statement in ast.parse(source).body)


def _binds(statement: ast.AST) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return statement.name == "reward_func"  # what is bound inside of it is not the module's
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return any((alias.asname or alias.name) in ("reward_func", "*") for alias in statement.names)
    if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
        return statement.id == "reward_func"
    return any(_binds(child) for child in ast.iter_child_nodes(statement))


EXPECTED = "expected {'rewards': number} for one sample, with 'scores' and 'extra_logs' if there are any"


def read_reward(value: Any) -> UserReward:
    """The reward of one sample, from plain JSON types. Raises RewardShape."""
    if not isinstance(value, dict):
        raise RewardShape(f"the reward is {_kind(value)}: {EXPECTED}")
    if "rewards" not in value:
        raise RewardShape(f"the reward has the keys {sorted(map(str, value))} and no 'rewards': {EXPECTED}")
    reward = _number("rewards", value["rewards"])
    score = reward if value.get("scores") is None else _number("scores", value["scores"])
    logs = value.get("extra_logs") or {}
    if not isinstance(logs, dict):
        raise RewardShape(f"'extra_logs' is {_kind(logs)}, not a dictionary of numbers")
    return UserReward(reward, score, {str(name): _number(f"extra_logs.{name}", log) for name, log in logs.items()})


def _number(name: str, value: Any) -> float:
    if isinstance(value, list):
        if len(value) != 1:
            raise RewardShape(f"{name!r} has {len(value)} values for one sample: give one")
        return _number(name, value[0])
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise RewardShape(f"{name!r} is {_kind(value)}, not a finite number")


def _kind(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} ({type(value).__name__})"
