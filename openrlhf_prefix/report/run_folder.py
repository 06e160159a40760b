"""The folder of a run: plain files that explain themselves.

    driver.log      what upstream prints in the driver
    config.yaml     every flag; `train --config` on it repeats the run
    metrics.jsonl   one line a step, and one for every evaluation
    rollouts.jsonl  prompt, prefix, continuation, reward, advantages of some groups of every step
    summary.json    base against trained, and where the export is
    checkpoints/    resumable (DeepSpeed)      export/  HF format      tensorboard/

A folder that holds a run is never written over: a new run is refused, a resumed one goes on after its checkpoint.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from openrlhf_prefix.errors import UserError


class RunFolder:
    """Reads and writes one run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def claim(self, resume: bool) -> None:
        """Makes the folder for a new run, or checks that there is one to resume.

        A folder with nothing but a config.yaml (a dry run) counts as new. Raises UserError.
        """
        used = self.path.exists() and any(entry.name != "config.yaml" for entry in self.path.iterdir())
        if used and not resume:
            raise UserError(
                f"{self.path} already holds a run: give another --run.dir, or --ckpt.load_enable to resume it"
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def write_config(self, text: str) -> Path:
        path = self.path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines to `name`.jsonl."""
        with (self.path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def read(self, name: str) -> list[dict[str, Any]]:
        """All lines of `name`.jsonl; none where there is no such file."""
        path = self.path / f"{name}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def rewind(self, step: int) -> None:
        """Drops what was written after `step`: a resumed run goes on from there."""
        for name in ("metrics", "rollouts"):
            path = self.path / f"{name}.jsonl"
            if not path.exists():
                continue
            kept = []
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break  # the run was killed while it wrote this line
                if row["step"] <= step:
                    kept.append(row)
            path.unlink()
            self.append(name, kept)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        (self.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
