"""A step that has nothing to learn from says so, and three in a row say what to look at.

A group whose rows have one reward has no advantage. Where that holds for every group, and no demonstration token is
imitated either, the step moves no parameter: the run costs its time and changes nothing.
"""

from collections.abc import Mapping
from typing import Any

PATIENCE = 3  # such steps, one after the other, until the causes are named
MOST = 0.5  # share of the rows above which something is worth a word

ALWAYS = "openrlhf-prefix data check on the training file, with --model, shows what the model is given."
CAUSES = (
    (
        lambda m: _without_answer(m) > MOST * _rows(m) and m.get("rollout/truncated_rate", 0) > MOST,
        "most responses end at their budget before they answer: raise --rollout.max_new_tokens",
    ),
    (
        lambda m: _without_answer(m) > MOST * _rows(m),
        "most responses have no \\boxed{} answer: let the prompt ask for one (--data.input_template, or "
        "--data.apply_chat_template for a chat model), or take the last number (--verifier.fallback last_number)",
    ),
    (
        lambda m: m.get("reward", 0) >= 1.0,
        "every answer is right: the problems are too easy for this model, or the reward cannot be 0",
    ),
    (
        lambda m: m.get("reward/plain") == 0 and (m.get("reward/prefixed") or 0) > 0,
        "prefixed rows are right and plain ones never: more prefixed rows (--prefix.prefixed_per_group), easier "
        "problems, or more samples of each (--rollout.n_samples_per_prompt)",
    ),
    (
        lambda m: m.get("reward", 0) <= 0,
        "no answer is right: the problems are too hard for this model, or answers and verifier do not fit "
        "(rollouts.jsonl has both)",
    ),
)


def words(metrics: Mapping[str, Any]) -> list[str]:
    """What the line of a step says about its signal; nothing where there is one.

    Example: ["32 of 32 without an answer", "no group with a signal: nothing to train on"]
    """
    said = []
    if _without_answer(metrics) > MOST * _rows(metrics):
        said.append(f"{_without_answer(metrics):.0f} of {_rows(metrics):.0f} without an answer")
    if metrics.get("train/tokens") == 0:
        said.append("no group with a signal: nothing to train on")
    elif metrics.get("rollout/equal_groups") == 1:
        said.append("every group agrees: demonstrations alone train")
    return said


class Silence:
    """Counts steps without a signal."""

    def __init__(self) -> None:
        self.steps = 0

    def after(self, metrics: Mapping[str, Any]) -> str | None:
        """The paragraph, once for each row of PATIENCE such steps."""
        self.steps = self.steps + 1 if metrics.get("train/tokens") == 0 else 0
        if self.steps != PATIENCE:
            return None
        cause = next((text for holds, text in CAUSES if holds(metrics)), "rewards do not differ within a group")
        return f"warning: {PATIENCE} steps in a row had nothing to train on. Likely: {cause}. {ALWAYS}"


def _without_answer(metrics: Mapping[str, Any]) -> float:
    return metrics.get("verifier/no_answer", 0.0) + metrics.get("verifier/unparseable", 0.0)


def _rows(metrics: Mapping[str, Any]) -> float:
    return metrics.get("rollout/num_samples") or 1.0
