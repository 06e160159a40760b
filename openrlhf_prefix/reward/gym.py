r"""The reward of reasoning-gym's tasks: 1 where its own `score_answer` gives full marks to the last box, else 0.

A label is the JSON of data/gym/rows.py, {"task": "countdown", "answer": .., "metadata": ..}. Some tasks give part of a
point for what is nearly right; a policy would live on it, so that it only stands in the logs, as `partial`.
"""

import json
from functools import cache
from typing import Any

from openrlhf_prefix.reward.answer import MAX_CHARACTERS, extract_answer


def reward_func(queries: list[str], prompts: list[str], labels: list[str], responses: list[str]) -> dict[str, Any]:
    """OpenRLHF's function, of one sample: see docs/40-rewards.md."""
    entry = json.loads(labels[0])
    mark = score(responses[0], entry)
    return {"rewards": float(mark >= 1), "scores": float(mark >= 1), "extra_logs": {"partial": mark}}


def score(response: str, entry: dict[str, Any]) -> float:
    """Marks in [0, 1] of a response; one without a closed box has none."""
    answer = extract_answer(response)
    if answer is None or len(answer) > MAX_CHARACTERS:
        return 0.0
    return float(_scorer(entry["task"])(answer.strip(), entry))


@cache
def _scorer(task: str) -> Any:
    from reasoning_gym import get_score_answer_fn

    return get_score_answer_fn(task)
