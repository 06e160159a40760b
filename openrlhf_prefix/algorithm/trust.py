"""How far each demonstration is trusted, by what became of the rows that it gave a prefix.

    s    its prefixed rows that were right
    f    of those that were wrong, the share l that each was given: what the policy wrote itself is not its fault
    w  = (s + c) / (s + f + c)        1 for one that was never tried, towards 0 for one that only misleads

With c = --prefix.trust, as if c rows had been right before. A prefixed row draws demonstration i with probability
w_i / sum w, and is a plain row after all with probability 1 - max w: a problem whose demonstrations all mislead is
left to reinforcement. No w is ever 0, so that a demonstration that the policy has come to understand is found again.

Example, c = 1: after a right row and a wrong one at l = 0.5, w = 2 / 2.5 = 0.8; after three wrong ones at l = 1, 0.25.
Ours: a derivation of no paper.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Counts = tuple[float, float]  # s, f


class Trust:
    """The counts of all demonstrations that were tried.

    Raises:
        ValueError: a prior that is not above 0.
    """

    def __init__(self, prior: float) -> None:
        if not prior > 0:
            raise ValueError(f"prefix.trust is {prior}: give a number above 0, or 0 to draw all demonstrations alike")
        self.prior = prior
        self.seen: dict[str, dict[int, Counts]] = {}

    def weight(self, problem_id: str, demonstration: int) -> float:
        """w of one demonstration, in (0, 1]."""
        right, wrong = self.seen.get(problem_id, {}).get(demonstration, (0.0, 0.0))
        return (right + self.prior) / (right + wrong + self.prior)

    def draw(self, problem_id: str, usable: Sequence[int], uniform: Callable[[str], float]) -> int | None:
        """One of the `usable` demonstrations, at least one; None: this row is a plain one.

        Args:
            uniform: a number in [0, 1) for a name.
        """
        weights = [self.weight(problem_id, index) for index in usable]
        if uniform("trust") >= max(weights):
            return None
        left = uniform("demonstration") * sum(weights)
        for index, weight in zip(usable, weights, strict=True):
            if left < weight:
                return index
            left -= weight
        return usable[-1]  # what rounding has left over

    def observe(self, problem_id: str, outcomes: Iterable[tuple[int, float, float]]) -> None:
        """Is told (demonstration, ratio, reward) of every prefixed row of a group whose reward is known."""
        for demonstration, ratio, reward in outcomes:
            counts = self.seen.setdefault(problem_id, {})
            right, wrong = counts.get(demonstration, (0.0, 0.0))
            counts[demonstration] = (right + 1, wrong) if reward > 0 else (right, wrong + ratio)

    def mean(self) -> float:
        """Of the demonstrations that were tried; 1 before any was."""
        weights = [self.weight(problem, index) for problem, counts in self.seen.items() for index in counts]
        return sum(weights) / len(weights) if weights else 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": {problem: dict(counts) for problem, counts in self.seen.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = {
            problem: {index: tuple(pair) for index, pair in counts.items()}
            for problem, counts in state["seen"].items()
        }
