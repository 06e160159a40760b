"""The folder of an evaluation, written while it samples, so that a killed one goes on where it was.

    settings.json          what the samples depend on, written before the first one
    details_<task>.jsonl   a line a sample, as it is judged: prompt, completion, extracted, gold, score, finish
    results_<time>.json    at the end; evaluation/results.py says what is in it

With `resume` samples that have a line are not drawn again; a line that a kill cut off is dropped. Other settings than
the folder's are refused: half of the samples would be of another evaluation.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrlhf_prefix.errors import UserError

SETTINGS = "settings.json"
MOVED = ("file",)  # may have another path: its hash says whether it is the same
Settings = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """One sample of one problem, as its details have it.

    Example: Verdict("aime-9f..", 31, 1.0, "equal", "stop", 812).
    """

    problem: str
    sample: int
    score: float  # 1 or 0, or what a reward file gives; above 0 is right
    reason: str  # of the grader: equal, different, no_answer, unparseable, timeout, ..., or rewarded
    finish: str  # stop, or length where max_new_tokens cut it off
    tokens: int


Key = tuple[str, str, int]  # task, problem, sample


class Records:
    """The samples of one evaluation. Without a folder they are kept in memory alone.

    Raises:
        UserError: the folder holds an evaluation, and `resume` is false or it has other settings.
    """

    def __init__(self, folder: Path | None, settings: Settings, resume: bool = False) -> None:
        self.folder, self.found = folder, dict[Key, Verdict]()
        if folder is None:
            return
        path = folder / SETTINGS
        if path.exists():
            if not resume:
                raise UserError(f"{folder} holds an evaluation: --resume goes on with it, or choose another --output")
            refuse_changes(f"{folder} cannot be resumed", read_json(path), settings, MOVED)
            for task in settings["tasks"]:
                self._read(task)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)

    def _read(self, task: str) -> None:
        path = self._details(task)
        if not path.exists():
            return
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # what follows was cut off by a kill
        if whole != text:
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            row = json.loads(line)
            self._keep(task, Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__}))

    def _keep(self, task: str, verdict: Verdict) -> None:
        self.found[task, verdict.problem, verdict.sample] = verdict

    def add(self, task: str, verdict: Verdict, **more: Any) -> None:
        """One sample; `more` stands in its line alone. Not for several threads at once."""
        self._keep(task, verdict)
        if self.folder is not None:
            with self._details(task).open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(verdict), **more}, ensure_ascii=False) + "\n")

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those that have no line yet."""
        return [key for key in keys if key not in self.found]

    def verdicts(self, task: str, problem: str, samples: int) -> list[Verdict]:
        """The samples of a problem in their order."""
        return [self.found[task, problem, sample] for sample in range(samples)]

    def lines(self, task: str) -> Iterator[dict[str, Any]]:
        """The whole lines of a task's file, in the order in which its samples were judged; needs a folder."""
        with self._details(task).open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def _details(self, task: str) -> Path:
        assert self.folder is not None
        return self.folder / f"details_{task}.jsonl"


def changes(old: Mapping[str, Any], new: Mapping[str, Any], ignored: Iterable[str] = ()) -> list[str]:
    """What differs, as "temperature 0.6 -> 1.0"; of tasks the parts that differ, under the task's name."""
    lines = []
    for name in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(name), new.get(name)
        if name in ignored or before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{name}.{line}" for line in changes(before, after, ignored)]
        else:
            lines.append(f"{name} {_short(before)} -> {_short(after)}")
    return lines


def refuse_changes(what: str, old: Mapping[str, Any], new: Mapping[str, Any], ignored: Iterable[str] = ()) -> None:
    """UserError where two evaluations differ in what their samples depend on."""
    if lines := changes(old, new, ignored):
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise UserError(f"{what}: it was made with other settings ({'; '.join(lines[:5])}{more})")


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: Path) -> dict[str, Any]:
    """An object of a file. UserError where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no object of settings or results")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, path)
