"""Demonstrations against own samples of a rollout batch: what the rule needs of every row, and where its c goes.

L is the sum of a row's log-probs before the update, L_0 the same by the older policy: the reference model for a
partition, the weights of the stage that sampled for a pair (stages.py). Both are forward passes over the whole batch.
The rows have no advantage: the reward is watched, and decides at the most which own samples are wrong.
"""

from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.contrast import PAIRS, Contrast, Groups
from openrlhf_prefix.runtime.controller.stages import Stages
from openrlhf_prefix.runtime.rows.fields import CONTRAST, counts
from openrlhf_prefix.settings.derived import contrasts, refers_to_start


class Contrasting:
    """Of one run; it does nothing where the flags name no rule."""

    def __init__(self, args: SimpleNamespace, stages: Stages) -> None:
        self.args, self.stages, flags = args, stages, args.contrast
        self.contrast = (
            Contrast(flags.rule, flags.tau, flags.gamma, flags.cap, flags.beta) if contrasts(args) else None
        )

    @torch.no_grad()
    def weigh(self, experiences: list[Experience], step: int, maker: Any) -> dict[str, float]:
        """Writes c into the rows of a rollout batch, and 0 into their advantages; returns metrics.

        Args:
            maker: the experience maker, which deals batches out and knows the reference model.
        """
        if self.contrast is None:
            return {}
        now = [_sums(one.action_log_probs, one) for one in experiences]
        rows = self._groups(experiences, now, self._before(experiences, step, maker))
        size = self.args.rollout.n_samples_per_prompt
        names = dict(pair for one in experiences for pair in zip(one.index, one.prompts, strict=True))
        problems = [names[place] for place in range(0, len(names), size)]
        found, metrics = self.contrast.coefficients(problems, rows)
        for one in experiences:
            one.info[CONTRAST] = found.flatten()[torch.tensor(one.index)].float()
            one.advantages = torch.zeros_like(one.advantages)
            one.returns = one.advantages.clone()
            for name in ("return", "prefix_advantage"):
                one.info[name] = torch.zeros_like(one.info[name])
        return metrics

    def _before(self, experiences: list[Experience], step: int, maker: Any) -> list[torch.Tensor]:
        """(B,) L_0 of each batch; NaN where the rule does not read it."""
        if self.args.contrast.rule in PAIRS:
            with self.stages.acting(self.stages.of(step)):
                found = maker.log_probs(experiences)
        elif refers_to_start(self.args):
            if maker.reference is None:  # log_probs() would ask the policy
                raise ValueError(f"contrast.rule {self.args.contrast.rule} reads a reference model, and there is none")
            found = maker.log_probs(experiences, group=maker.reference)
        else:
            return [torch.full((len(one.index),), torch.nan) for one in experiences]
        return [_sums(values, one) for values, one in zip(found, experiences, strict=True)]

    def _groups(self, experiences: list[Experience], now: list[torch.Tensor], before: list[torch.Tensor]) -> Groups:
        """(G, N) of numbers of the rows, whose `index` tells their places."""
        place = torch.tensor([index for one in experiences for index in one.index])
        size = self.args.rollout.n_samples_per_prompt

        def ordered(values: list[torch.Tensor]) -> torch.Tensor:
            joined = torch.cat([one.flatten() for one in values])
            result = torch.empty_like(joined)
            result[place] = joined
            return result.view(-1, size)

        demonstration = ordered([one.info["prefix_length"] for one in experiences]) > 0
        texts = {
            index: tokens[mask].tolist()
            for one in experiences
            for index, tokens, mask in zip(one.index, one.sequences[:, 1:], one.action_mask.bool(), strict=True)
        }
        equal = torch.zeros_like(demonstration)
        for group, slot in (~demonstration).nonzero().tolist():
            stars = demonstration[group].nonzero().flatten().tolist()
            own = texts[group * size + slot]
            equal[group, slot] = any(own == texts[group * size + star] for star in stars)
        return Groups(
            now=ordered(now),
            before=ordered(before),
            tokens=ordered([one.action_mask.sum(-1) for one in experiences]),
            demonstration=demonstration,
            valid=ordered([counts(one.info["reward_failed"], self.args) for one in experiences]),
            right=ordered([one.rewards > 0 for one in experiences]),
            equal=equal,
        )


def _sums(log_probs: torch.Tensor, rows: Experience) -> torch.Tensor:
    """(B,) sums over the action tokens, in fp64."""
    mask = rows.action_mask.bool()
    return torch.where(mask, log_probs, torch.zeros_like(log_probs)).double().sum(-1)
