"""avg@n and pass@k, as pure functions of per-problem counts.

    avg@n    mean over problems of (correct / n)
    pass@k   mean over problems of 1 - C(n - c, k) / C(n, k): the unbiased estimator for c correct of n samples

Example: n = 4, c = 1: avg@4 = 0.25, pass@1 = 0.25, pass@2 = 1 - C(3, 2) / C(4, 2) = 0.5, pass@4 = 1.
Source of pass@k: arXiv 2107.03374, section 2.1.
"""

import math
from collections.abc import Sequence


def average_at_n(correct: Sequence[float], samples: int) -> float:
    """Mean share of correct samples; `correct[i]` of `samples` for problem i. No problems: ValueError."""
    _check(correct, samples)
    return sum(correct) / (samples * len(correct))


def pass_at_k(correct: Sequence[float], samples: int, k: int) -> float:
    """Unbiased probability that at least one of k samples is correct, 1 <= k <= samples."""
    chances = pass_chances(correct, samples, k)
    return sum(chances) / len(chances)


def pass_chances(correct: Sequence[float], samples: int, k: int) -> list[float]:
    """The same of every problem by itself."""
    _check(correct, samples)
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs 1 <= k <= {samples} samples a problem")
    total = math.comb(samples, k)
    return [1.0 - math.comb(samples - round(c), k) / total for c in correct]


def _check(correct: Sequence[float], samples: int) -> None:
    if not correct:
        raise ValueError("no problems were evaluated")
    if any(not 0 <= c <= samples for c in correct):
        raise ValueError(f"a problem has between 0 and {samples} correct samples, got {sorted(set(correct))}")
