"""The window of prefix ratios over the run.

The ratio of a prefix is drawn uniformly from [low(t), high]. In the paper high is fixed and low falls by a cosine, so
that training starts close to imitation and ends close to plain reinforcement:

    low(t) = low_end + (low_start - low_end) * (1 + cos(pi * t / T)) / 2

With low 0.95 -> 0.05, T = 500: low(0) = 0.95, low(250) = 0.50, low(500) = 0.05, and it stays there.
Source: arXiv 2507.01679, appendix A.2.
"""

import math
from dataclasses import dataclass

# Share of the way from low_start to low_end, as a function of t / T in [0, 1].
SHAPES = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1.0 - math.cos(math.pi * progress)) / 2.0,
}


@dataclass(frozen=True)
class PrefixSchedule:
    """Window of prefix ratios at a step.

    Args:
        low_start, low_end: lower bound at step 0 and from step `total_steps` on, as shares of the demonstration.
        high: upper bound, fixed.
        shape: how the lower bound moves: constant (stays at low_start), linear or cosine.
        total_steps: rollout steps until the lower bound has arrived at low_end.

    Raises:
        ValueError: a ratio outside [0, 1], a lower bound above `high`, an unknown shape, total_steps below 1.
    """

    low_start: float = 0.95
    low_end: float = 0.05
    high: float = 0.95
    shape: str = "cosine"
    total_steps: int = 500

    def __post_init__(self) -> None:
        for name in ("low_start", "low_end", "high"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"prefix.{name} is {value}: a ratio lies in [0, 1]")
        for name in ("low_start", "low_end"):
            value = getattr(self, name)
            if value > self.high:
                raise ValueError(f"prefix.{name} = {value} is above prefix.high = {self.high}: lower it or raise high")
        if self.shape not in SHAPES:
            raise ValueError(f"prefix.shape is {self.shape!r}: choose one of {', '.join(SHAPES)}")
        if self.total_steps < 1:
            raise ValueError(f"prefix.total_steps is {self.total_steps}: a schedule needs at least 1 step")

    def window(self, step: int) -> tuple[float, float]:
        """Bounds (low, high) of the prefix ratio at rollout step `step` >= 0."""
        if step < 0:
            raise ValueError(f"step is {step}: steps count from 0")
        moved = SHAPES[self.shape](min(step / self.total_steps, 1.0))
        return self.low_start + (self.low_end - self.low_start) * moved, self.high
