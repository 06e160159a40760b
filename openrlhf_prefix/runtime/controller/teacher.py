"""The teacher's log-probs of the tokens that the policy has sampled, for the rows that it acts on.

A row is shown to the teacher as  context | response,  with its sampled tokens for actions. The context is the prompt,
or the prompt around a demonstration of the problem (`Problem.shown`). The teacher is a frozen model of its own, or the
policy itself. What it says lies on the row's own grid afterwards, NaN for prefix tokens, the token that ends a
response, and rows that it does not act on. Once it is withdrawn nothing is forwarded.
"""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import ray
import torch
from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.algorithm.sampler import draw_demonstration
from openrlhf_prefix.data.problems import Problem
from openrlhf_prefix.runtime.rows.batches import single_rows
from openrlhf_prefix.runtime.rows.fields import TEACHER, prefix_mask_of
from openrlhf_prefix.settings.derived import has_teacher, teacher_coef, teacher_folder


class Teacher:
    """Of one run; it does nothing where the flags name none.

    Args:
        args: nested flags.
        total_steps: global steps of the run.
        problems: of the training set, for demonstrations in the context.
        ends: ids at which a response ends.
        group: OpenRLHF's group of its actors; None where the policy is its own teacher.
    """

    def __init__(
        self, args: SimpleNamespace, total_steps: int, problems: Sequence[Problem], ends: Sequence[int], group: Any
    ) -> None:
        self.args, self.total_steps, self.ends = args, total_steps, torch.tensor(list(ends))
        self.group = group if teacher_folder(args) else None
        self.shown: Mapping[str, Problem] = {}
        if has_teacher(args) and args.teacher.context == "demonstration":
            self.shown = {problem.id: problem for problem in problems if problem.shown}

    def load(self, strategy: Any) -> None:
        """Loads its model; returns when all ranks have it."""
        if self.group is not None:
            ray.get(self.group.async_init_model_from_pretrained(strategy, teacher_folder(self.args)))

    def coef(self, step: int) -> float:
        """Weight of its term at a global step; 0 without a teacher, and once it is withdrawn."""
        return teacher_coef(self.args, step, self.total_steps) if has_teacher(self.args) else 0.0

    def judge(self, experiences: list[Experience], acts_on: torch.Tensor, step: int, maker: Any) -> dict[str, float]:
        """Writes its log-probs into the rows of a rollout batch; returns metrics.

        Args:
            acts_on: (N,) of the rows by their places, as algorithm/teacher.py chose them.
            maker: the experience maker, which makes forward batches and deals them out.
        """
        if not self.coef(step):
            return {}
        rows = {
            place: row for batch in experiences for place, row in zip(batch.index, single_rows(batch), strict=True)
        }
        views = [view for place, row in rows.items() if acts_on[place] and (view := self._view(row, step)) is not None]
        found: dict[int, torch.Tensor] = {}
        batches = maker.split_rollout_samples(views)
        log_probs = maker.log_probs(batches, group=self.group) if batches else []
        for batch, of_batch in zip(batches, log_probs, strict=True):
            for place, values, mask in zip(batch.index, of_batch, batch.action_mask.bool(), strict=True):
                found[place] = values[mask].float()
        for experience in experiences:
            experience.info[TEACHER] = torch.stack(
                [
                    self._on_grid(rows[place], found.get(place), experience.action_mask.shape[1])
                    for place in experience.index
                ]
            )
            if self.args.teacher.instead:
                self._without_reward(experience, [place in found for place in experience.index])
        return {"teacher/rows": float(len(found))}

    def _view(self, row: Experience, step: int) -> Experience | None:
        """What the teacher sees of a row; None without a sampled token, or without the demonstration to be shown."""
        sampled = _sampled(row)
        if not sampled.any():
            return None
        actions = row.action_mask[0].nonzero().flatten()
        start, end = int(actions[0]) + 1, int(actions[-1]) + 2  # the token of action j stands at j + 1
        context = row.sequences[0, :start]
        if self.args.teacher.context == "demonstration":
            problem = self.shown.get(row.prompts[0])
            if problem is None:
                return None
            which = draw_demonstration(self.args.train.seed, step, problem.id, len(problem.shown))
            context = torch.from_numpy(problem.shown[which]).long()
        sequences = torch.cat([context, row.sequences[0, start:end]]).unsqueeze(0)
        mask = torch.cat([torch.zeros(len(context) - 1, dtype=torch.bool), sampled[start - 1 : end - 1]]).unsqueeze(0)
        return Experience(
            sequences=sequences,
            attention_mask=torch.ones_like(sequences),
            action_mask=mask,
            index=row.index,
            info={"prefix_length": torch.tensor([0])},
        )

    def _on_grid(self, row: Experience, values: torch.Tensor | None, width: int) -> torch.Tensor:
        """(width,) what it said of one row's sampled tokens, where they stand."""
        grid, sampled = torch.full((width,), math.nan), _sampled(row)
        if values is not None:
            grid[sampled] = values
            grid[torch.isin(row.sequences[0, 1:], self.ends)] = math.nan
        return grid

    def _without_reward(self, experience: Experience, judged: list[bool]) -> None:
        """Judged rows have no advantage but the teacher's."""
        rows = torch.tensor(judged)
        experience.advantages = experience.advantages.masked_fill(rows.unsqueeze(-1), 0.0)
        experience.returns = experience.advantages.clone()
        for name in ("return", "prefix_advantage"):
            experience.info[name] = experience.info[name].masked_fill(rows, 0.0)


def _sampled(row: Experience) -> torch.Tensor:
    """(A,) bool of a single row."""
    return (row.action_mask.bool() & ~prefix_mask_of(row))[0]
