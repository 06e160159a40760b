"""What a user's reward may return, and the sentence that says what is wrong with it.

As in OpenRLHF, for one sample a time:

    {"rewards": 1.0, "scores": 1.0, "extra_logs": {"format": 0.5}}

`rewards` and `scores` are numbers, or lists (tensors) of exactly one; `scores` (default: the reward) is what dynamic
filtering and evaluation look at; `extra_logs` (optional) are averaged into the metrics.
"""

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
