"""TensorBoard and wandb: what metrics.jsonl has, under OpenRLHF's names, and a few rollouts of every step.

    train/<key>    a step's row, and what a save took         over train/global_step
    eval/<key>     an evaluation's                            over eval/global_step
    samples        of the first group that is logged two plain and two prefixed rows, as a table

Upstream's loggers do the writing. Its loop closes them when it ends, where an evaluation may be still to come (wandb
then refuses to log); so close() waits for finish(), which a run that stops calls as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN = ("step", "problem", "prompt", "prefix", "continuation", "answer", "reward", "advantage")
OF_A_KIND = 2  # rows with a prefix, and rows without
TAG = "samples"


class Trackers:
    """In the place of upstream's loggers; either of them may be None."""

    def __init__(self, wandb: Any, tensorboard: Any) -> None:
        self.wandb, self.tensorboard = wandb, tensorboard
        if wandb:  # upstream plots evaluations over eval/epoch, which it never logs
            wandb.handle.define_metric("eval/global_step")
            wandb.handle.define_metric("eval/*", step_metric="eval/global_step", step_sync=True)
            wandb.handle.define_metric(TAG, step_metric="train/global_step")

    def _each(self) -> Iterator[Any]:
        return filter(None, (self.wandb, self.tensorboard))

    def log_train(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self._each():
            logger.log_train(step, metrics)

    def log_eval(self, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self._each():
            logger.log_eval(step, metrics)

    def log_samples(self, step: int, rollouts: Sequence[Mapping[str, Any]]) -> None:
        """Some of the rows of rollouts.jsonl of a step."""
        if not (rows := chosen(step, rollouts)):
            return
        if self.wandb:
            table = self.wandb.handle.Table(columns=list(SHOWN), data=rows)
            self.wandb.handle.log({TAG: table, "train/global_step": step})
        if self.tensorboard:
            self.tensorboard.writer.add_text(TAG, markdown(rows), step)

    def close(self) -> None:
        """Upstream's loop has ended; the run has not."""

    def finish(self) -> None:
        for logger in self._each():
            logger.close()
        self.wandb = self.tensorboard = None


def chosen(step: int, rollouts: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Values of SHOWN of two plain and two prefixed rows, the first ones of the first group."""
    group = [row for row in rollouts if row["group"] == rollouts[0]["group"]]
    plain, prefixed = ([row for row in group if bool(row["prefix_length"]) is kind] for kind in (False, True))
    rows = [*plain[:OF_A_KIND], *prefixed[:OF_A_KIND]]
    return [[{"step": step, **row}[name] for name in SHOWN] for row in rows]


def markdown(rows: Sequence[Sequence[Any]]) -> str:
    """As a table; what a model writes stays text: TensorBoard's page takes Markdown and HTML out of it otherwise."""
    lines = [SHOWN, ["---"] * len(SHOWN), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    escaped = "".join(f"&#{ord(c)};" if c in "&<>|`*_[]\\$~#" else c for c in str(value))
    return escaped.replace("\n", "<br>")
