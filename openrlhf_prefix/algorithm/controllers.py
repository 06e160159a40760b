"""What decides how much of a demonstration a prefixed row is given.

    schedule     l ~ U(low(t), high), the paper's (schedules.py)
    uniform      l ~ U(low_end, high) at every step: the paper's ablation
    staged       l fixed within a stage: one share for each equal part of the schedule (QuestA)
    binomial     l = k / chunks, k ~ Binomial(chunks, low(t)), one l for a group, none after the schedule (UFT)
    adaptive     l ~ U(lo, hi) of the problem, one l for the whole group: a mean reward below `target` raises lo to l,
                 any other lowers hi to l and lo to 0; a share `plain` of the visits goes without a prefix (AdaBack)
    on_failure   as schedule, for problems whose plain rows all failed at the last visit; others go without

Example (adaptive, target 0.4, high 0.95): a new problem has (0, 0.95). Reward 0 at l = 0.5 makes it (0.5, 0.95), then
reward 1 at l = 0.7 (0, 0.7).

A draw is a function of (seed, step, problem, slot) and of what was observed before, which checkpoints carry.
Source: arXiv 2507.01679 (appendix A.2), 2505.16984 (UFT), 2506.18110 (AdaBack), QuestA's repository.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.algorithm.schedules import PrefixSchedule

Uniform = Callable[[str], float]  # a number in [0, 1) for a name
MEMORY = 0.05  # of the running averages that a new problem starts from


@dataclass(frozen=True)
class Settings:
    """What the controllers are made from; each reads its own.

    Raises:
        ValueError: a share outside [0, 1], no stage, chunks below 1.
    """

    schedule: PrefixSchedule
    stages: tuple[float, ...] = (0.5, 0.25)
    chunks: int = 5
    target: float = 0.4
    plain: float = 0.1

    def __post_init__(self) -> None:
        for name, shares in (("stages", self.stages), ("target", [self.target]), ("plain", [self.plain])):
            if not shares or not all(0.0 <= share <= 1.0 for share in shares):
                raise ValueError(f"prefix.{name} is {list(shares)}: shares lie in [0, 1], at least one of them")
        if self.chunks < 1:
            raise ValueError(f"prefix.chunks is {self.chunks}: a demonstration has at least 1 chunk")


class Schedule:
    """The paper's controller, and the base of the others."""

    shared = False  # one draw for all prefixed rows of a group

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.schedule = settings.schedule

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        """Share of the demonstration to give at rollout step >= 0; None: this row is a plain one."""
        low, high = self.schedule.window(step)
        return low + (high - low) * uniform("ratio")

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        """Is told (ratio, reward) of every row of a group whose reward is known; ratio 0 for plain rows."""

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


class Binomial(Schedule):
    shared = True

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        if step >= self.schedule.total_steps:
            return None
        chunks, share = self.settings.chunks, self.schedule.window(step)[0]
        shown = sum(uniform(f"chunk {number}") < share for number in range(chunks))
        return shown / chunks if shown else None


class Adaptive(Schedule):
    shared = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.average = (0.0, self.schedule.high)
        self.bounds: dict[str, tuple[float, float]] = {}

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        if uniform("plain") < self.settings.plain:
            return None
        low, high = self.bounds.get(problem_id, self.average)
        return low + (high - low) * uniform("ratio")

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        prefixed = [(ratio, reward) for ratio, reward in outcomes if ratio > 0]
        if not prefixed:
            return
        ratio = prefixed[0][0]  # shared by all of them
        mean = sum(reward for _, reward in prefixed) / len(prefixed)
        _, high = self.bounds.get(problem_id, self.average)
        found = (ratio, high) if mean < self.settings.target else (0.0, ratio)
        self.bounds[problem_id] = found
        low, high = ((1 - MEMORY) * old + MEMORY * new for old, new in zip(self.average, found, strict=True))
        self.average = (low, high)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "bounds": dict(self.bounds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average, self.bounds = (
            tuple(state["average"]),
            {key: tuple(pair) for key, pair in state["bounds"].items()},
        )


class OnFailure(Schedule):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.failed: set[str] = set()

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        return super().ratio(step, problem_id, uniform) if problem_id in self.failed else None

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        plain = [reward for ratio, reward in outcomes if ratio == 0]
        if plain and max(plain) <= 0:
            self.failed.add(problem_id)
        elif plain:
            self.failed.discard(problem_id)

    def state_dict(self) -> dict[str, Any]:
        return {"failed": sorted(self.failed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.failed = set(state["failed"])


CONTROLLERS: dict[str, type[Schedule]] = {
    "schedule": Schedule,
    "uniform": UniformWindow,
    "staged": Staged,
    "binomial": Binomial,
    "adaptive": Adaptive,
    "on_failure": OnFailure,
}
