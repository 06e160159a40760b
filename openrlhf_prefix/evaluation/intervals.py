"""How far a mean can be trusted: over problems by the bootstrap, over seeds by Student's t.

    over problems   2.5 % and 97.5 % quantiles of the means of 10,000 resamples with replacement   (Efron 1979)
    over seeds      mean +- t(n - 1) s / sqrt(n), s with n - 1 in its divisor                      (Student 1908)

Example: seeds 0.5, 0.6, 0.7 have s = 0.1; t with 2 degrees of freedom is 4.303, so 0.6 +- 0.248.
"""

import math
import statistics
from collections.abc import Sequence

import mpmath
import numpy as np


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, one value a problem. No values: ValueError."""
    if not values:
        raise ValueError("no problems were evaluated")
    table = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = [table[rng.integers(len(table), size=len(table))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """Mean of independent runs and half the width of its interval; None where a single run has none."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, student_t(confidence, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def student_t(confidence: float, degrees: int) -> float:
    """The t for which |T| <= t has probability `confidence`, T with `degrees` degrees of freedom.

    P(|T| > t) is the regularised incomplete beta function I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + t^2).
    """
    if degrees < 1 or not 0 < confidence < 1:
        raise ValueError(f"{degrees} degrees of freedom and confidence {confidence}: 1 or more, and within (0, 1)")

    def excess(x: float) -> float:
        return mpmath.betainc(degrees / 2, 0.5, 0, x, regularized=True) - (1 - confidence)

    x = mpmath.findroot(excess, (0, 1), solver="bisect", tol=1e-24, maxsteps=200)
    return float(mpmath.sqrt(degrees * (1 - x) / x))


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values: s / sqrt(n), s with n - 1 in its divisor; None for a single one.

    The values are problems: samples of one problem are not independent. Example: [0, 1] has s = sqrt(1/2), error 1/2.
    """
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
