r"""Score of a response: 1 when its boxed answer equals the gold answer as mathematics, else 0, and always the reason.

    score_one(r"... so it is \boxed{\frac{1}{2}}.", "0.5") == Score(1.0, "equal")

    equal, different   verdict of equality/ here on what is rational, in a worker on all else
    no_answer          no closed, non-empty box after the thinking, and no fallback found anything
    unparseable        it or the gold is past the limits of answer.py, or nobody can read it
    timeout, crash, memory   the worker was late, died, or hit its memory limit

Everything but "equal" is worth 0. Log counts(): many a "timeout" is a machine too small, not a model too weak.
"""

import math
import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from openrlhf_prefix.reward.answer import FALLBACKS, extract_answer, extract_boxed, too_complex
from openrlhf_prefix.reward.equality.exact import ExactOracle, Undecided
from openrlhf_prefix.reward.equality.verdict import decide
from openrlhf_prefix.reward.grammar.tokens import Unreadable
from openrlhf_prefix.reward.pool import WorkerLost, WorkerPool

ADVICE = (
    "Run the command by hand to see it fail. math-verify missing or broken: pip install 'math-verify[antlr4_13_2]'; "
    "MemoryError: raise memory_mb."
)


_EXACT = ExactOracle()
REASONS = ("equal", "different", "no_answer", "unparseable", "timeout", "crash", "memory")


@dataclass(frozen=True)
class Score:
    """Value 1.0 or 0.0, and why."""

    value: float
    reason: str


class MathVerifier:
    """Judges answers in `workers` processes at once (one more is kept warm), each answer within `timeout` seconds.

    `fallback` says what counts as the answer of a response without a box: "none", "last_number" or "last_line". The
    processes start at the first answer that needs one and belong to the process that started them. Every method
    may be called from many threads at once.
    """

    def __init__(
        self,
        workers: int = 2,
        timeout: float = 5.0,
        memory_mb: int = 2048,
        fallback: str = "none",
        cache_size: int = 65536,
    ) -> None:
        if workers < 1 or timeout <= 0:
            raise ValueError(f"workers={workers}, timeout={timeout}: one worker and a positive time are the least")
        if fallback not in FALLBACKS:
            raise ValueError(f"fallback={fallback!r}: choose one of {', '.join(FALLBACKS)}")
        self.workers, self.timeout, self.memory_mb, self.fallback = workers, timeout, memory_mb, fallback
        self._cached_judge = lru_cache(maxsize=cache_size)(self._judge)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._new_pool()

    def __enter__(self) -> "MathVerifier":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers; a later score raises RuntimeError."""
        self._pool.close()

    def score(self, responses: list[str], answers: list[str]) -> list[Score]:
        """One Score per response, in order; answers are the golds. Keeps all workers busy."""
        if len(responses) != len(answers):
            raise ValueError(f"{len(responses)} responses but {len(answers)} answers: pass one gold per response")
        # what needs no worker is settled first, without the cost of a thread each
        settled = [self._settle(response, answer) for response, answer in zip(responses, answers, strict=True)]
        with ThreadPoolExecutor(self.workers) as threads:
            asked = threads.map(self._ask, [pair for pair in settled if not isinstance(pair, Score)])
            scores = [found if isinstance(found, Score) else next(asked) for found in settled]
        self._count(scores)
        return scores

    def score_one(self, response: str, answer: str) -> Score:
        """The Score of one response against the gold `answer` (bare LaTeX, or itself in a box).

        Raises:
            TypeError: either is no string. That is an error of the caller, not a wrong answer.
        """
        found = self._settle(response, answer)
        score = found if isinstance(found, Score) else self._ask(found)
        self._count([score])
        return score

    def counts(self) -> dict[str, int]:
        """How often each reason came up since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)

    def _count(self, scores: list[Score]) -> None:
        with self._lock:
            self._counts.update(score.reason for score in scores)

    def _settle(self, response: str, gold: str) -> Score | tuple[str, str]:
        """The Score where no worker is needed, else the (gold, answer) to ask one for."""
        for name, text in (("response", response), ("answer", gold)):
            if not isinstance(text, str):
                raise TypeError(f"{name} is a {type(text).__name__}, not a string: pass the text itself")
        answer = (extract_answer(response, self.fallback) or "").strip()
        gold = (extract_boxed(gold) or gold).strip()
        if not answer:
            return Score(0.0, "no_answer")
        if answer == gold:  # most right answers end here
            return Score(1.0, "equal")
        if too_complex(answer) or too_complex(gold):
            return Score(0.0, "unparseable")
        try:
            equal = decide(gold, answer, _EXACT)
        except (Unreadable, Undecided):
            return gold, answer
        return Score(float(equal), "equal" if equal else "different")

    def _ask(self, pair: tuple[str, str]) -> Score:
        try:
            return self._cached_judge(*pair)
        except WorkerLost as lost:
            return Score(0.0, lost.reason)

    def _judge(self, gold: str, answer: str) -> Score:
        """A verdict that depends on its arguments alone; anything else is raised, as lru_cache keeps no exception."""
        if self._pid != os.getpid():  # after a fork: the pipes belong to the parent
            self._new_pool()
        reply = self._pool.call({"gold": gold, "answer": answer})
        if reply["reason"] == "memory":
            raise WorkerLost("memory")
        return Score(reply["value"], reply["reason"])

    def _new_pool(self) -> None:
        command = [sys.executable, "-m", "openrlhf_prefix.reward.worker", "--memory-mb", str(self.memory_mb)]
        command += ["--orphan-seconds", str(math.ceil(self.timeout) + 60)]
        self._pool = WorkerPool(command, self.workers, self.timeout, ADVICE)
        self._pid = os.getpid()
