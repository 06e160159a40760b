"""Rows of rollouts.jsonl: what a person wants to see of a rollout, as text."""

from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience


def rollout_rows(experiences: list[Experience], tokenizer: Any, group_size: int, groups: int) -> list[dict[str, Any]]:
    """One dictionary per rollout of the first `groups` groups (all where it is negative), in their order."""
    rows = [
        (index, experience, place)
        for experience in experiences
        for place, index in enumerate(experience.index)
        if groups < 0 or index < groups * group_size
    ]
    return [
        {"group": index // group_size, "slot": index % group_size, **_row(experience, place, tokenizer)}
        for index, experience, place in sorted(rows, key=lambda row: row[0])
    ]


def _row(experience: Experience, place: int, tokenizer: Any) -> dict[str, Any]:
    # action_mask[:, j] speaks of the token at j + 1.
    actions = experience.action_mask[place].nonzero().flatten()
    start, end = int(actions[0]) + 1, int(actions[-1]) + 2
    length = int(experience.info["prefix_length"][place])
    tokens, alone = experience.sequences[place], experience.info.get("solves_alone")

    def text(part: torch.Tensor) -> str:
        return tokenizer.decode(part, skip_special_tokens=False)

    return {
        "problem": experience.prompts[place],
        "answer": experience.labels[place],
        "prompt": text(tokens[:start]),
        "prefix": text(tokens[start : start + length]),
        "continuation": text(tokens[start + length : end]),
        "reward": float(experience.rewards[place]),
        "advantage": float(experience.info["return"][place]),
        "prefix_advantage": float(experience.info["prefix_advantage"][place]),
        "prefix_length": length,
        "prefix_solves_alone": alone is not None and float(alone[place]) == 1.0,
        "truncated": bool(experience.truncated[place]),
    }
