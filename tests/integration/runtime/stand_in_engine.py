"""An engine for tests of what lies around it: it answers by a request's seed alone, as vLLM's does."""

from collections.abc import Sequence
from types import SimpleNamespace

Answer = tuple[str, int, str]  # text, tokens, finish reason


class StandInEngine:
    """Answers `answers[seed % len(answers)]`, `at_once` requests a step in reversed order, and is interrupted after
    `until` of them; `seen` has (prompt ids, seed) of each."""

    def __init__(self, answers: Sequence[Answer], at_once: int, until: int = 10**9) -> None:
        self.answers, self.at_once, self.until = answers, at_once, until
        self.waiting: list[tuple] = []
        self.seen: list[tuple[tuple[int, ...], int]] = []

    @property
    def seeds(self) -> list[int]:
        return [seed for _, seed in self.seen]

    def add_request(self, name: str, prompt: dict, params) -> None:
        self.waiting.append((name, tuple(prompt["prompt_token_ids"]), params.seed))

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[SimpleNamespace]:
        if len(self.seen) >= self.until:
            raise KeyboardInterrupt
        now, self.waiting = self.waiting[: self.at_once], self.waiting[self.at_once :]
        self.seen += [(ids, seed) for _, ids, seed in now]
        return [self._output(name, *self.answers[seed % len(self.answers)]) for name, _, seed in reversed(now)]

    @staticmethod
    def _output(name: str, text: str, tokens: int, finish: str) -> SimpleNamespace:
        output = SimpleNamespace(text=text, token_ids=[1] * tokens, finish_reason=finish)
        return SimpleNamespace(request_id=name, outputs=[output])
