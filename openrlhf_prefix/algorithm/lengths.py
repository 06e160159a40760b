"""What decides how much of a demonstration a prefixed row is given: the base, and controllers that learn nothing.

    schedule     l ~ U(low(t), high), the paper's (schedules.py)
    uniform      l ~ U(low_end, high) at every step: the paper's ablation
    staged       l fixed within a stage: one share for each equal part of the schedule (QuestA)
    cuts         l drawn from a few shares, each as likely as the others, at every step (PrefixRL)
    binomial     l = k / chunks, k ~ Binomial(chunks, low(t)), one l for a group, none after the schedule (UFT)
    spread       the window of the schedule in as many equal parts as a group has prefixed rows, and one l ~ U of each
                 part, all of the same demonstration: several lengths of it in one group (StepHint)

Example (spread): a window from 0.1 to 0.9 and 4 prefixed rows give the first l in [0.1, 0.3), the last in [0.7, 0.9).

A draw is a function of (seed, step, problem, slot) and of what was observed before, which checkpoints carry.
Source: arXiv 2507.01679 (appendix A.2), 2505.16984 (UFT), 2507.02841 (StepHint), QuestA's repository;
cuts: 2601.18795 (PrefixRL), a derivation from what is said about it, its text was not to be had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.algorithm.schedules import PrefixSchedule

Uniform = Callable[[str], float]  # a number in [0, 1) for a name
MOST_TOKENS = 3072  # of controller ratio, as published


@dataclass(frozen=True)
class Settings:
    """What the controllers are made from; each reads its own.

    Raises:
        ValueError: a share outside [0, 1], no stage, chunks or scores below 1, a goal of 0 or less, tokens outside
            [1, 3072].
    """

    schedule: PrefixSchedule
    stages: tuple[float, ...] = (0.5, 0.25)
    chunks: int = 5
    target: float = 0.4
    plain: float = 0.1
    goal: float = 1.0
    scores: int = 10
    tokens: int = MOST_TOKENS

    def __post_init__(self) -> None:
        for name, shares in (("stages", self.stages), ("target", [self.target]), ("plain", [self.plain])):
            if not shares or not all(0.0 <= share <= 1.0 for share in shares):
                raise ValueError(f"prefix.{name} is {list(shares)}: shares lie in [0, 1], at least one of them")
        if self.chunks < 1:
            raise ValueError(f"prefix.chunks is {self.chunks}: a demonstration has at least 1 chunk")
        if self.goal <= 0 or self.scores < 1:
            raise ValueError(
                f"prefix.goal is {self.goal}, prefix.scores {self.scores}: a score above 0, and a mean of 1 or more"
            )
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise ValueError(f"prefix.tokens is {self.tokens}: give 1 to {MOST_TOKENS}")


class Schedule:
    """The paper's controller, and the base of the others."""

    shared = False  # one draw for all prefixed rows of a group
    spread = False  # one demonstration for them, and each draws from a part of [0, 1) of its own
    in_tokens = False  # ratio() gives tokens, whatever the demonstration's length

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.schedule = settings.schedule

    @property
    def share(self) -> float:
        """Of imitation_coef, with hybrid.imitation_gap."""
        return 1.0

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        """Share of the demonstration to give at rollout step >= 0; None: this row is a plain one."""
        low, high = self.schedule.window(step)
        return low + (high - low) * uniform("ratio")

    def know(self, rates: Mapping[str, float]) -> None:
        """Is told before the run what share of a policy's samples was right, for problems whose data say so."""

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        """Is told (ratio, reward) of every row of a group whose reward is known; ratio 0 for plain rows."""

    def step_over(self) -> None:
        """All groups of a rollout step were observed, and the step has trained."""

    def metrics(self) -> dict[str, float]:
        """What a step's line in metrics.jsonl says of this controller."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What was learnt from observe(), for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a state_dict() back."""


class UniformWindow(Schedule):
    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        low, high = self.schedule.low_end, self.schedule.high
        return low + (high - low) * uniform("ratio")


class Staged(Schedule):
    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        stages = self.settings.stages
        return stages[min(step * len(stages) // self.schedule.total_steps, len(stages) - 1)]


class Cuts(Schedule):
    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        stages = self.settings.stages
        return stages[int(uniform("cut") * len(stages))]


class Binomial(Schedule):
    shared = True

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        if step >= self.schedule.total_steps:
            return None
        chunks, share = self.settings.chunks, self.schedule.window(step)[0]
        shown = sum(uniform(f"chunk {number}") < share for number in range(chunks))
        return shown / chunks if shown else None


class Spread(Schedule):
    spread = True
