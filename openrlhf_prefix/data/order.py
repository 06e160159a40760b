"""In which order the problems are visited: a pure function of (seed, episode), with a position that can be saved.

Takes the place of a shuffling data loader. Each episode is one permutation, trimmed to whole rollout batches: what a
last, smaller batch would hold comes first or last in another episode's order.
"""

from collections.abc import Iterator, Sequence

from openrlhf_prefix.algorithm.sampler import stable_bits
from openrlhf_prefix.data.problems import Problem


class ProblemLoader:
    """Yields (sources, problems, answers, images) one problem at a time, as OpenRLHF's prompt loader does.

    Args:
        problems: all problems.
        batch: problems that one rollout step takes; the episode is trimmed to a multiple of it.
        seed: of the permutations; None keeps the order of the file and trims nothing (evaluation).
    """

    def __init__(self, problems: Sequence[Problem], batch: int = 1, seed: int | None = None) -> None:
        self.problems = problems
        self.seed = seed
        self.length = len(problems) // batch * batch
        self.episode = -1
        self.position = self.length
        self._resumed = False

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[list, list, list, list]]:
        if self._resumed:
            self._resumed = False
        else:
            self.episode, self.position = self.episode + 1, 0
        order = self._order()
        while self.position < self.length:
            problem = self.problems[order[self.position]]
            self.position += 1
            yield [problem.source], [problem], [problem.answer], [None]

    def _order(self) -> list[int]:
        indices = list(range(len(self.problems)))
        if self.seed is None:
            return indices
        return sorted(indices, key=lambda index: stable_bits("order", self.seed, self.episode, index))

    def state_dict(self) -> dict[str, int]:
        return {"episode": self.episode, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration goes on at the saved place."""
        self.episode, self.position = state["episode"], state["position"]
        self._resumed = True
