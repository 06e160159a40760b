"""A run folder as the report needs it: whatever can be read of it, and a sentence for whatever cannot.

A run that goes on, was killed in a line, or is of an older version is shown as far as it goes. A line that is no JSON
object with a whole `step` is left out and counted; rollouts are read by samples.py, which does not hold them all.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import ROWS

Row = dict[str, Any]


@dataclass
class Run:
    """What one run folder says."""

    name: str  # the shortest end of its path that tells it from the other runs
    path: Path
    flags: dict[str, Any]  # of config.yaml
    about: dict[str, Any]  # of about.json: steps, problems, hardware, versions
    summary: dict[str, Any]  # of summary.json, which a finished run has
    steps: list[Row]  # rows of metrics.jsonl, one for each step
    beside: list[Row]  # its other rows: evaluations and saves
    evaluations: list[Row]
    notes: list[str] = field(default_factory=list)  # what could not be read, for the reader

    @property
    def last_step(self) -> int:
        return max((row["step"] for row in (*self.steps, *self.beside)), default=0)


class Lines:
    """The rows of a .jsonl file, one at a time; afterwards `broken` counts the lines that are none."""

    def __init__(self, path: Path) -> None:
        self.path, self.broken, self.cut = path, 0, False

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """(position of the line in bytes, row)."""
        if not self.path.is_file():
            return
        position = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # being written just now, or cut off by a kill
                    self.cut = True
                    return
                if (row := parse(line)) is not None:
                    yield position, row
                elif line.strip():
                    self.broken += 1
                position += len(line)

    def notes(self) -> list[str]:
        said = [f"{self.path.name}: {self.broken} line(s) could not be read and are left out"] * bool(self.broken)
        return said + [f"{self.path.name}: its last line is not whole and is left out"] * self.cut


def parse(line: bytes) -> Row | None:
    """The row of a line; None where it is no object with a step."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0 else None


def read_runs(paths: list[Path]) -> list[Run]:
    """The runs, named apart. Raises UserError for a folder of which nothing can be shown."""
    twice = {str(path) for path in paths if paths.count(path) > 1}
    if twice:
        raise UserError(f"{', '.join(sorted(twice))} is named twice: name each run once")
    return [read_run(path, name) for path, name in zip(paths, names(paths), strict=True)]


def read_run(path: Path, name: str) -> Run:
    """Raises UserError for a folder of which nothing can be shown."""
    check_folder(path)
    metrics, evaluations, notes = Lines(path / "metrics.jsonl"), Lines(path / "evaluations.jsonl"), []
    rows = [_numbers(row) for _, row in metrics]
    judged = [row for _, row in evaluations]
    notes += metrics.notes() + evaluations.notes()
    if not (path / "config.yaml").is_file():
        notes.append("there is no config.yaml: method, model and flags are not known")
    run = Run(
        name=name,
        path=path,
        flags=_mapping(path / "config.yaml", notes),
        about=_mapping(path / "about.json", notes),
        summary=_mapping(path / "summary.json", notes),
        steps=[row for row in rows if _is_step(row)],
        beside=[row for row in rows if not _is_step(row)],
        evaluations=judged,
        notes=notes,
    )
    if not rows and not judged and not any(True for _ in Lines(path / "rollouts.jsonl")):
        raise UserError(f"{path} has no step and no evaluation that could be shown yet: wait for its first one")
    return run


def check_folder(path: Path) -> None:
    """Raises UserError for a folder that is not one of a run."""
    if not path.is_dir():
        raise UserError(f"there is no folder {path}: name a run folder, the --run.dir of `train`")
    if any((path / f"{name}.jsonl").is_file() for name in ROWS) or (path / "config.yaml").is_file():
        return
    inside = sorted(str(found.parent) for found in path.glob("*/metrics.jsonl"))
    hint = f"name the run folders in it: {' '.join(inside[:4])}" if inside else "name the --run.dir of a training"
    raise UserError(f"{path} is no run folder, it has no metrics.jsonl: {hint}")


def _is_step(row: Row) -> bool:
    """A step's own row, by what only a training step has; evaluations and saves have rows beside it."""
    return any(name in row for name in ("timing/step_total", "timing/ppo_train", "actor_grad_norm", "reward"))


def is_number(value: Any) -> bool:
    """A finite one; no boolean, and no integer beyond all floats."""
    return type(value) in (int, float) and abs(value) < 1e300


def _numbers(row: Row) -> Row:
    """The finite numbers of a row: the page has no use for others."""
    return {key: value for key, value in row.items() if is_number(value)}


def _mapping(path: Path, notes: list[str]) -> dict[str, Any]:
    """Of a YAML or JSON file; empty where there is none, or where it is something else, which is noted."""
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        content = None
    if isinstance(content, dict):
        return content
    notes.append(f"{path.name} could not be read")
    return {}


def names(paths: list[Path]) -> list[str]:
    """Of each path the shortest end that no other one has.

    Example: runs/a/rft and runs/b/rft are a/rft and b/rft.
    """
    parts = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            break
    return ends
