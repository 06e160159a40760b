"""Controllers of the prefix length that learn from what came of it, and the table of all (lengths.py has the others).

    adaptive     l ~ U(lo, hi) of the problem, one l for the whole group: a mean reward below `target` raises lo to l,
                 any other lowers hi to l and lo to 0; a share `plain` of the visits goes without a prefix (AdaBack)
    on_failure   as schedule, for problems whose plain rows all failed at the last visit; others go without
    gap          l = s U(low_start, high), s = max(1 - M / goal, 0), M the mean score of the plain rows of the last
                 `scores` steps; once M of that many steps has reached the goal, s stays 0 (after GATS, whose s weighs
                 a teacher). s takes the place of the cosine, and of imitation_coef's too where that is asked for
    ratio        l of L tokens; every third step L <- L (mean accuracy of the two steps before) / (this step's),
                 within [1, 3072], unchanged where one of them is 0 (G2RPO-A)
    pass_rate    l of the problem, raised by (1/2 - success) / 2 at each visit, success that of the whole group; at
                 first (1/2 - r) / (1 - r), which brings a pass rate r to one half where success grows evenly from r
                 without a prefix to 1 with all of it; r is a column of the data, or the mean of plain rows so far

Example (adaptive, target 0.4, high 0.95): a new problem has (0, 0.95). Reward 0 at l = 0.5 makes it (0.5, 0.95), then
reward 1 at l = 0.7 (0, 0.7). Example (pass_rate): r = 0 begins with l = 0.5; a group with 1 of 8 right makes that
0.6875. What is learnt at a step moves the next step at the earliest.

Source: arXiv 2506.18110 (AdaBack), the code of 2508.13023 (G2RPO-A), GATS (Kuaishou, 2026); pass_rate is ours, with
the aim of arXiv 2605.05112.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_prefix.algorithm.lengths import (
    MOST_TOKENS,
    Binomial,
    Cuts,
    Schedule,
    Settings,
    Spread,
    Staged,
    Uniform,
    UniformWindow,
)

MEMORY = 0.05  # of the running averages that a new problem starts from
GAIN = 0.5  # of pass_rate: change of the share for a success that is 1 away
BALANCED = 0.5  # success at which a group tells most: p (1 - p) is largest


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

    def know(self, rates: Mapping[str, float]) -> None:
        self.failed |= {problem_id for problem_id, rate in rates.items() if rate == 0}

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


class Gap(Schedule):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.of_step: list[float] = []  # rewards of the plain rows of this step
        self.scores: list[float] = []
        self.withdrawn = False

    @property
    def share(self) -> float:
        if self.withdrawn:
            return 0.0
        mean = sum(self.scores) / len(self.scores) if self.scores else 0.0
        return min(max(1 - mean / self.settings.goal, 0.0), 1.0)

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        low, high = self.schedule.low_start, self.schedule.high
        return self.share * (low + (high - low) * uniform("ratio")) or None

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        self.of_step += [reward for ratio, reward in outcomes if ratio == 0]

    def step_over(self) -> None:
        if self.of_step:
            self.scores = [*self.scores, sum(self.of_step) / len(self.of_step)][-self.settings.scores :]
            self.of_step = []
        if len(self.scores) == self.settings.scores and self.share == 0:  # a lucky first step is not enough
            self.withdrawn = True

    def metrics(self) -> dict[str, float]:
        return {"prefix/share": self.share}

    def state_dict(self) -> dict[str, Any]:
        return {"scores": list(self.scores), "withdrawn": self.withdrawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scores, self.withdrawn = list(state["scores"]), state["withdrawn"]


class TokenRatio(Schedule):
    in_tokens = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.tokens = settings.tokens
        self.of_step: list[float] = []  # rewards of all rows of this step
        self.accuracies: list[float] = []  # of the steps since the last change

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        return float(self.tokens)

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        self.of_step += [reward for _, reward in outcomes]

    def step_over(self) -> None:
        if self.of_step:
            self.accuracies.append(sum(self.of_step) / len(self.of_step))
            self.of_step = []
        if len(self.accuracies) == 3:
            before, now = sum(self.accuracies[:2]) / 2, self.accuracies[2]
            self.accuracies = []
            if before > 0 and now > 0:
                self.tokens = min(max(int(self.tokens * (before / now)), 1), MOST_TOKENS)

    def metrics(self) -> dict[str, float]:
        return {"prefix/tokens": float(self.tokens)}

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "accuracies": list(self.accuracies)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tokens, self.accuracies = state["tokens"], list(state["accuracies"])


class PassRate(Schedule):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.rates: dict[str, float] = {}  # before the run
        self.of_step: list[float] = []  # rewards of the plain rows of this step
        self.plain = (0.0, 0)  # sum and number of those before it
        self.lengths: dict[str, float] = {}

    def ratio(self, step: int, problem_id: str, uniform: Uniform) -> float | None:
        return self._length(problem_id) or None

    def know(self, rates: Mapping[str, float]) -> None:
        self.rates = dict(rates)

    def observe(self, problem_id: str, outcomes: Sequence[tuple[float, float]]) -> None:
        if not outcomes:
            return
        success = sum(reward for _, reward in outcomes) / len(outcomes)
        moved = self._length(problem_id) + GAIN * (BALANCED - success)
        self.lengths[problem_id] = min(max(moved, 0.0), self.schedule.high)
        self.of_step += [reward for ratio, reward in outcomes if ratio == 0]

    def step_over(self) -> None:
        self.plain = (self.plain[0] + sum(self.of_step), self.plain[1] + len(self.of_step))
        self.of_step = []

    def _length(self, problem_id: str) -> float:
        if problem_id in self.lengths:
            return self.lengths[problem_id]
        rate = self.rates.get(problem_id, self.plain[0] / max(self.plain[1], 1))
        return min((BALANCED - rate) / (1 - rate), self.schedule.high) if rate < BALANCED else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"plain": self.plain, "lengths": dict(self.lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.plain, self.lengths = tuple(state["plain"]), dict(state["lengths"])


CONTROLLERS: dict[str, type[Schedule]] = {
    "schedule": Schedule,
    "uniform": UniformWindow,
    "staged": Staged,
    "cuts": Cuts,
    "binomial": Binomial,
    "spread": Spread,
    "adaptive": Adaptive,
    "on_failure": OnFailure,
    "gap": Gap,
    "ratio": TokenRatio,
    "pass_rate": PassRate,
}
