"""Who says whether a sample is right: our verifier, or the reward file that a run had (--reward_file).

A grade takes (question, text) to (extracted answer, score). A reward above 0 is right, as in training's
own evaluation; one that failed is recorded with the reason, and counts as wrong.
"""

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openrlhf_prefix.evaluation import choices
from openrlhf_prefix.evaluation.results import REWARDED
from openrlhf_prefix.reward import MathVerifier, Score
from openrlhf_prefix.reward.answer import extract_answer
from openrlhf_prefix.runtime.driver.preflight import first_reward
from openrlhf_prefix.runtime.engine.rewards import FunctionReward, Sample
from openrlhf_prefix.runtime.evaluate.prepare import Asked

Grade = Callable[[Asked, str], tuple[str | None, Score]]
WORKERS, SECONDS = 2, 60.0  # --reward.workers and --reward.timeout of a run


@contextmanager
def grading(options: argparse.Namespace, first: Asked) -> Iterator[tuple[Grade, int]]:
    """(the grade, how many texts it judges at once); its processes end with the block.

    Raises:
        UserError: the reward file does not start, or gives the `first` question what no reward is.
    """
    if options.reward_file:
        reward = FunctionReward(options.reward_file, WORKERS, SECONDS)
        try:
            first_reward(reward, options.reward_file, Sample(first.text, first.text, first.gold))
            yield by_file(reward, options.fallback), WORKERS
        finally:
            reward.close()
    else:
        with MathVerifier(fallback=options.fallback) as verifier:
            yield by_verifier(verifier), verifier.workers


def by_file(reward: FunctionReward, fallback: str) -> Grade:
    """The grade of a reward file, which judges the options of multiple choice as well."""

    def grade(question: Asked, text: str) -> tuple[str | None, Score]:
        outcome = asyncio.run(reward(Sample(question.text + text, question.text, question.gold, text)))
        assert outcome.reward is not None
        return extract_answer(text, fallback), Score(outcome.reward, outcome.failure or REWARDED)

    return grade


def by_verifier(verifier: MathVerifier) -> Grade:
    """Our grade: of letters where a question has options, of mathematics elsewhere."""

    def grade(question: Asked, text: str) -> tuple[str | None, Score]:
        if not question.choices:
            return extract_answer(text, verifier.fallback), verifier.score_one(text, question.gold)
        answer = extract_answer(text, "last_line")
        label = choices.chosen(answer or "")
        if label is None:
            return answer, Score(0.0, "unparseable" if answer else "no_answer")
        right = label == question.gold.strip()
        return answer, Score(float(right), "equal" if right else "different")

    return grade
