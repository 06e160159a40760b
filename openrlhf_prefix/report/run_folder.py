"""The folder of a run: plain files that explain themselves.

    driver.log      what upstream prints in the driver
    config.yaml     every flag; `train --config` on it repeats the run
    metrics.jsonl   one line a step, and one for every evaluation
    evaluations.jsonl         right samples of every held-out problem
    reward_failures.jsonl     rewards that failed: problem, slot, reason, traceback
    rollouts.jsonl  prompt, prefix, continuation, reward, advantages of some groups of every step
    about.json      steps in all, problems, hardware, versions
    report.html     curves and samples, made anew while the run goes on
    summary.json    base against trained, and where the export is
    checkpoints/    resumable (DeepSpeed)      export/  HF format      tensorboard/
    before_1/       records and export of a start that left no checkpoint to go on from

A folder that holds a run is never written over: a new run is refused, a resumed one goes on after its checkpoint.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from openrlhf_prefix.errors import UserError

ROWS = ("metrics", "evaluations", "rollouts", "reward_failures")
RECORDS = (*(f"{name}.jsonl" for name in ROWS), "summary.json", "about.json", "report.html", "export", "tensorboard")
BEFORE_A_RUN = ("config.yaml", "model", ".model.new")  # the last two: model_folder.py


class RunFolder:
    """Reads and writes one run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def used(self) -> bool:
        """Whether the folder holds a run, and not just what a dry or a refused one leaves."""
        return self.path.is_dir() and any(entry.name not in BEFORE_A_RUN for entry in self.path.iterdir())

    def claim(self, resume: bool) -> None:
        """Makes the folder of a new run; one that holds a run already is taken only to resume it. Raises UserError."""
        if self.used() and not resume:
            raise UserError(
                f"{self.path} already holds a run: give another --run.dir, or --ckpt.load_enable to resume it"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--run.dir {self.path} cannot be made ({error.strerror}): give another one") from None

    def set_aside(self) -> list[Path]:
        """Before a run starts at step 0: the records of an earlier start go to a folder of their own, before_N.

        Returns:
            That folder, or nothing where there are no records. Raises UserError where it cannot be made.
        """
        found = [name for name in RECORDS if (self.path / name).exists()]
        if not found:
            return []
        number = 1
        while (self.path / f"before_{number}").exists():
            number += 1
        folder = self.path / f"before_{number}"
        try:
            folder.mkdir()
            for name in found:
                os.rename(self.path / name, folder / name)
        except OSError as error:
            raise UserError(f"{folder} cannot be made ({error.strerror}): give another --run.dir") from None
        return [folder]

    def write_config(self, text: str) -> Path:
        path = self.path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines to `name`.jsonl."""
        with (self.path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")

    def read(self, name: str) -> list[dict[str, Any]]:
        """All whole lines of `name`.jsonl; none where there is no such file."""
        path = self.path / f"{name}.jsonl"
        if not path.exists():
            return []
        *lines, rest = path.read_bytes().split(b"\n")  # `rest` was cut off by a kill, or is empty
        return [json.loads(line) for line in lines]

    def rewind(self, step: int, evaluated: bool = True) -> None:
        """Drops what was written after `step`, and unless it was `evaluated` by then its evaluation too."""

        def stays(row: Mapping[str, Any]) -> bool:
            evaluation = "judged" in row or any(name.startswith("eval_") for name in row)
            return row["step"] <= step and not (row["step"] == step and not evaluated and evaluation)

        for name in ROWS:
            path = self.path / f"{name}.jsonl"
            kept = [row for row in self.read(name) if stays(row)]
            if path.exists():
                rest = self.path / f".{name}.kept.jsonl"
                rest.unlink(missing_ok=True)  # of a rewind that was killed
                self.append(f".{name}.kept", kept)
                os.replace(rest, path)

    def write_about(self, about: Mapping[str, Any]) -> None:
        (self.path / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        (self.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
