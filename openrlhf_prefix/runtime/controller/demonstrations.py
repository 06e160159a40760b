"""Whole demonstrations as rows of the replay buffer, without an engine: for supervised steps and failed groups.

Such a row is prompt | y* | stop token with all of its response for a prefix, so that the imitation term trains it and
nothing else does. Which demonstration of a problem is taken is a function of (seed, step, problem).
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.sampler import draw_demonstration, stable_bits
from openrlhf_prefix.data.problems import Problem


class Demonstrations:
    """The demonstrations of a training set.

    Args:
        problems: all training problems; those without a demonstration are left out.
        held_out: how many of them are kept for validation and never trained by batch().
        end: id that ends a demonstration.
    """

    def __init__(self, problems: Sequence[Problem], seed: int, end: int, held_out: int = 0) -> None:
        self.seed, self.end = seed, end
        self.by_id = {problem.id: problem for problem in problems if problem.demonstrations}
        order = sorted(self.by_id, key=lambda key: stable_bits("validation", seed, key))
        self.validation, self.training = order[:held_out], order[held_out:]

    def row(self, problem_id: str, step: int) -> Experience:
        """The row of a problem at a global step."""
        problem = self.by_id[problem_id]
        which = draw_demonstration(self.seed, step, problem_id, len(problem.demonstrations))
        demonstration = problem.demonstrations[which]
        tokens = torch.from_numpy(np.concatenate([problem.prompt_ids, demonstration])).long()
        sequences = torch.cat([tokens, torch.tensor([self.end])]).unsqueeze(0)
        length = len(demonstration) + 1
        action = torch.zeros(1, sequences.shape[1] - 1, dtype=torch.bool)
        action[:, -length:] = True
        nothing = torch.zeros(action.shape)
        return Experience(
            sequences=sequences,
            attention_mask=torch.ones_like(sequences),
            action_mask=action,
            action_log_probs=nothing,
            advantages=nothing,
            returns=nothing,
            rewards=torch.zeros(1),
            prompts=[problem_id],
            labels=[problem.answer],
            images=[None],
            mm_train_inputs=[None],
            response_length=torch.tensor([length]),
            total_length=torch.tensor([float(sequences.shape[1])]),
            truncated=torch.tensor([False]),
            info={"prefix_length": torch.tensor([length])},
        )

    def batch(self, step: int, rows: int) -> list[Experience]:
        """The rows of supervised step `step`: one pass over the training problems after the other, each in an order
        of its own."""
        size = len(self.training)
        passes = {number // size for number in range(step * rows, (step + 1) * rows)}
        orders = {
            one: sorted(self.training, key=lambda key: stable_bits("pass", self.seed, one, key)) for one in passes
        }
        return [
            self.row(orders[number // size][number % size], step) for number in range(step * rows, (step + 1) * rows)
        ]


def alike(row: Experience, other: Experience) -> Experience:
    """`row` with the fields and metrics of `other`, a row of a rollout, so that both fit into one micro-batch."""
    blank = torch.zeros(row.action_mask.shape)
    for field in fields(Experience):
        if isinstance(getattr(other, field.name), torch.Tensor) and getattr(row, field.name) is None:
            of_tokens = getattr(other, field.name).shape == other.action_mask.shape
            setattr(row, field.name, blank if of_tokens else torch.zeros(1))
    row.info = {name: row.info.get(name, torch.zeros(1)) for name in other.info}
    row.index = other.index
    return row
