"""What becomes of groups with too few right samples: demonstrations come in, with steps or rows of their own.

    replace    the demonstration takes the place of the group's first row, the others train nothing (HPT, 2509.04419)
    buffer     the problem waits; when hybrid.buffer of them wait, they are supervised steps of their own (ReLIFT,
               2506.07527), the first that came first; what waits travels with the checkpoint

A group failed when at most `hybrid.gate` of its rows are right. A problem without a demonstration stays as it is.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import NamedTuple

from openrlhf.trainer.ppo_utils.experience import Experience

from openrlhf_prefix.runtime.controller.demonstrations import Demonstrations, alike
from openrlhf_prefix.runtime.rows.batches import blank
from openrlhf_prefix.settings.derived import buffer_size


class Rescued(NamedTuple):
    rows: list[Experience]
    metrics: dict[str, float]


class Rescue:
    """Applies --hybrid.rescue to the rows of a rollout batch."""

    def __init__(self, args: SimpleNamespace, demonstrations: Demonstrations) -> None:
        self.mode, self.demonstrations = args.hybrid.rescue, demonstrations
        self.group_size, self.buffer = args.rollout.n_samples_per_prompt, buffer_size(args)
        self.waiting: list[tuple[str, int]] = []  # problem and the step at which it failed

    def __call__(self, rows: list[Experience], failed: Mapping[int, str], step: int) -> Rescued:
        """The rows to train on.

        Args:
            rows: single rows in the order of training; `index` tells each row's place in the rollout batch.
            failed: number of each failed group -> its problem.
        """
        known = {group: problem for group, problem in failed.items() if problem in self.demonstrations.by_id}
        if self.mode == "none":
            return Rescued(rows, {})
        if self.mode == "replace":
            replaced = [self._replaced(row, known, step) for row in rows]
            return Rescued(replaced, {"rescue/replaced": float(len(known))})
        self.waiting += [(problem, step) for _, problem in sorted(known.items())]
        due: list[tuple[str, int]] = []
        if len(self.waiting) >= self.buffer:
            due, self.waiting = self.waiting[: self.buffer], self.waiting[self.buffer :]
        added = [alike(self.demonstrations.row(*place), rows[0]) for place in due]
        waiting = {"rescue/waiting": float(len(self.waiting)), "rescue/supervised_rows": float(len(due))}
        return Rescued(rows + added, waiting)

    def state_dict(self) -> dict[str, list[tuple[str, int]]]:
        return {"waiting": list(self.waiting)}

    def load_state_dict(self, state: Mapping[str, list[tuple[str, int]]]) -> None:
        self.waiting = list(state["waiting"])

    def _replaced(self, row: Experience, failed: Mapping[int, str], step: int) -> Experience:
        group, slot = divmod(row.index[0], self.group_size)
        if group not in failed:
            return row
        return blank(row) if slot else alike(self.demonstrations.row(failed[group], step), row)
