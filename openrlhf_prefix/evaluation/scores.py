"""All that one evaluation says: avg@n and pass@k of a dataset, each with its interval over problems."""

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_prefix.evaluation.intervals import bootstrap_interval
from openrlhf_prefix.evaluation.metrics import average_at_n, pass_at_k, pass_chances


def scores(correct: Sequence[int], samples: int, ks: Sequence[int]) -> dict[str, Any]:
    """Numbers of one dataset, as the `evaluate` verb writes them; `correct[i]` of `samples` for problem i.

    Example: {"problems": 2, "avg": 0.5, "interval": [0.0, 1.0], "pass": {"4": 0.5},
    "pass_interval": {"4": [0.0, 1.0]}, "correct": [0, 4]}
    """
    return {
        "problems": len(correct),
        "avg": average_at_n(correct, samples),
        "interval": bootstrap_interval([c / samples for c in correct]),
        "pass": {str(k): pass_at_k(correct, samples, k) for k in ks},
        "pass_interval": {str(k): bootstrap_interval(pass_chances(correct, samples, k)) for k in ks},
        "correct": list(correct),
    }


def score_line(result: Mapping[str, Any], samples: int) -> str:
    """The same for a person.

    Example: 256 problems | avg@4 92.7% [90.6%, 94.6%] | pass@4 99.2% [98.0%, 100.0%]
    """
    parts = [f"{result['problems']} problems", f"avg@{samples} {_percent(result['avg'], result['interval'])}"]
    parts += [f"pass@{k} {_percent(value, result['pass_interval'][k])}" for k, value in result["pass"].items()]
    return " | ".join(parts)


def _percent(value: float, interval: Sequence[float]) -> str:
    return f"{value:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
