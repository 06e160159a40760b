"""results.jsonl: one line a run, written when it ended; read again when the comparison goes on.

A run that failed has a line with its reason, and is tried again by the next call; its last line counts.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from openrlhf_prefix.comparison.commands import Job
from openrlhf_prefix.data.sampled import NOTHING, Cost
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder

Line = dict[str, Any]


class Results:
    """The lines of one comparison."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.jsonl"
        self.lines: dict[str, Line] = {}
        if not self.path.exists():
            return
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # what follows was cut off by a kill
        if whole != text:
            os.truncate(self.path, len(whole))
        for line in whole.splitlines():
            row = json.loads(line)
            self.lines[row["run"]] = row

    def add(self, line: Line) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines[line["run"]] = line

    def finished(self) -> dict[str, Line]:
        return {name: line for name, line in self.lines.items() if "failed" not in line}

    def failed(self) -> dict[str, Line]:
        return {name: line for name, line in self.lines.items() if "failed" in line}

    def check_settings(self, jobs: Iterable[Job]) -> None:
        """UserError where a finished run had other settings than it has now: its line would stand for another run."""
        finished = self.finished()
        for job in jobs:
            name = job.run.name
            if name in finished and finished[name]["settings"] != job.settings:
                raise UserError(
                    f"{self.path} holds {name} with other settings than this file gives it: choose another --folder, "
                    "or remove its line and its run folder"
                )


def training_line(folder: Path, sampled: Cost = NOTHING) -> Line:
    """What a finished training's folder says: steps, tokens, seconds, and accuracy on its evaluation set by step.

    Args:
        sampled: what it cost to make the training data, by a policy; a part of what the run generated and took.
    """
    run = RunFolder(folder)
    rows = run.read("metrics")
    steps = [row for row in rows if "timing/step_total" in row]
    curve = [[row["step"], accuracy] for row in rows if (accuracy := _accuracy(row)) is not None]
    return {
        "steps": run.summary()["steps"],
        "tokens_generated": _sum(steps, "rollout/tokens_generated") + sampled.tokens,
        "tokens_of_data": sampled.tokens,
        "tokens_trained": _sum(steps, "train/tokens"),
        "seconds": round(_sum(steps, "timing/step_total") + sampled.seconds, 1),
        "curve": curve,
    }


def _sum(rows: list[Line], name: str) -> float:
    return sum(row[name] for row in rows)


def _accuracy(row: Mapping[str, Any]) -> float | None:
    """Mean over the sources of an evaluation's problems; None for the line of a step."""
    values = [value for name, value in row.items() if name.startswith("eval_") and name.endswith("_pass1")]
    return sum(values) / len(values) if values else None


def evaluation_line(path: Path, sets: Mapping[str, str]) -> Line:
    """Set -> avg, interval over problems and pass@k, from the file of the `evaluate` verb."""
    found = json.loads(path.read_text(encoding="utf-8"))["datasets"]
    kept = ("problems", "avg", "interval", "pass")
    return {
        "sets": {name: {key: row[key] for key in kept} for name, row in zip(sets, found, strict=True)},
    }
