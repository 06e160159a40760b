"""What a run and a comparison leave, for Python: rows as DataFrames, the rest as it stands in the folder.

Nothing is kept in memory: a run that goes on, in another process perhaps, is read as far as it has come.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.command import BUDGET, NAME, make
from openrlhf_prefix.report.reading import Lines, check_folder, read_run

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """The folder of a run: one that train() has made, or any other.

    Raises:
        UserError: the folder is not there, or is none of a run.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()
        check_folder(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def metrics(self) -> "pd.DataFrame":
        """A row a step, by `step`, with every key of docs/reading-a-run.md; held-out scores stand in the row of the
        step that they follow, step 0 is the base model. Seconds, tokens, shares: as that page says."""
        run, rows = self._read(), dict[int, dict[str, Any]]()
        for row in (*run.steps, *run.beside):
            rows.setdefault(row["step"], {}).update(row)
        return _frame(rows[step] for step in sorted(rows)).set_index("step")

    def samples(self, step: int | None = None) -> "pd.DataFrame":
        """The rollouts of a step that were logged, a row each: problem, prompt, prefix, continuation, answer, reward,
        advantage and what else rollouts.jsonl has. Without `step` those of the last one. UserError: it has none."""
        lines, rows, last = Lines(self.folder / "rollouts.jsonl"), list[dict[str, Any]](), -1
        for _, row in lines:
            if step is None and row["step"] > last:
                last, rows = row["step"], []
            if row["step"] == (last if step is None else step):
                rows.append(row)
        if not rows:
            raise UserError(
                f"{self.folder} has no rollouts of {'any step' if step is None else f'step {step}'}: supervised steps "
                "have none, and --run.rollout_groups says how many are logged"
            )
        return _frame(rows)

    def report(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Makes the page of the run (`openrlhf-prefix report`) as it is now; returns its path, report.html in the
        folder where `output` names no other."""
        path = Path(output) if output else self.folder / NAME
        make([self.folder], path, BUDGET)
        return path

    @property
    def export(self) -> Path:
        """The folder of the trained model, for transformers and vLLM. UserError: there is none yet."""
        path = Path(self.flags.get("ckpt.output_dir") or self.folder / "export")
        path = path if path.is_dir() else self.folder / "export"  # the run folder was moved here
        if not path.is_dir():
            raise UserError(
                f"{self.folder} holds no export, which a run makes at its end: openrlhf-prefix export makes one of a "
                "checkpoint"
            )
        return path

    @property
    def flags(self) -> dict[str, Any]:
        """Every flag of the run by its dotted name, as config.yaml has them."""
        return self._read().flags

    @property
    def summary(self) -> dict[str, Any]:
        """Of a finished run {"base": scores, "trained": scores, "gains": {metric: [gain, low, high]}, "steps",
        "seconds", "paths", ...}; before that, nothing."""
        return self._read().summary

    def _read(self) -> Any:
        return read_run(self.folder, self.folder.name)


class Comparison:
    """The folder of a comparison."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser().absolute()
        if not (self.folder / "results.jsonl").is_file():
            raise UserError(f"{self.folder} holds no comparison, it has no results.jsonl: check the folder")

    def __repr__(self) -> str:
        return f"Comparison({str(self.folder)!r})"

    @property
    def table(self) -> str:
        """Methods with their scores over seeds, as Markdown."""
        return (self.folder / "table.md").read_text(encoding="utf-8")

    @property
    def results(self) -> "pd.DataFrame":
        """A row a run: task, method, stage, lr, seed, steps, tokens, seconds, sets, curve; `failed` has a reason."""
        lines = (self.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return _frame({row["run"]: row for row in map(json.loads, lines)}.values())  # the last line of a run counts


def _frame(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    import pandas as pd  # half a second

    return pd.DataFrame(list(rows))
