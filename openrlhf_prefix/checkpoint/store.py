"""The folder of a run's checkpoints: which is the newest complete one, how a new one gets its name, which ones go.

A checkpoint is written under a name that nobody looks for, and renamed when it is complete; older ones are removed
only then. So at every moment of a save the newest complete checkpoint is on the disk under its own name.
"""

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_prefix.checkpoint import manifest

PARTIAL, REPLACED = ".partial_", ".replaced_"
_TAG = re.compile(r"(best_)?global_step(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: every file was compared with its manifest."""

    path: Path
    facts: dict[str, Any]

    @property
    def tag(self) -> str:
        return self.path.name

    @property
    def step(self) -> int:
        return place(self.tag)[0]


@dataclass
class Choice:
    """The newest complete checkpoint, or None, and a line for each newer one that was passed over."""

    checkpoint: Checkpoint | None = None
    passed_over: list[str] = field(default_factory=list)


def place(tag: str) -> tuple[int, bool]:
    """Where a tag stands in time: its step, and after a regular one of that step the best, which is saved later.

    Raises:
        ValueError: `tag` is no name of a checkpoint.
    """
    found = _TAG.fullmatch(tag)
    if found is None:
        raise ValueError(f"{tag!r} is no name of a checkpoint")
    return int(found[2]), found[1] is not None


def is_best(tag: str) -> bool:
    return place(tag)[1]


class Store:
    """Reads and writes the checkpoints below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tags(self) -> list[str]:
        """Names of all checkpoints, complete or not, the newest first."""
        if not self.folder.is_dir():
            return []
        names = [entry.name for entry in self.folder.iterdir() if entry.is_dir() and _TAG.fullmatch(entry.name)]
        return sorted(names, key=place, reverse=True)

    def choose(self) -> Choice:
        """The newest checkpoint that is complete; reads every byte of it."""
        choice = Choice()
        for entry in sorted(self.folder.glob(f"{PARTIAL}*")):
            choice.passed_over.append(f"{entry.name.removeprefix(PARTIAL)}: the save was not finished")
        for tag in self.tags():
            try:
                choice.checkpoint = Checkpoint(self.folder / tag, manifest.verify(self.folder / tag))
                break
            except manifest.Damaged as damage:
                choice.passed_over.append(f"{tag}: {damage}")
        return choice

    def begin(self, tag: str) -> Path:
        """An empty folder for the files of `tag`; what an earlier save left unfinished is removed."""
        place(tag)
        for leftover in [*self.folder.glob(f"{PARTIAL}*"), *self.folder.glob(f"{REPLACED}*")]:
            shutil.rmtree(leftover)
        partial = self.folder / f"{PARTIAL}{tag}"
        partial.mkdir(parents=True)
        return partial

    def commit(self, tag: str) -> Path:
        """Gives the finished folder of begin() its name; one of that name makes way."""
        final, old = self.folder / tag, self.folder / f"{REPLACED}{tag}"
        if final.exists():
            os.rename(final, old)
        os.rename(self.folder / f"{PARTIAL}{tag}", final)
        manifest.sync(self.folder)
        if old.exists():
            shutil.rmtree(old)
        return final

    def prune(self, newest: str, keep: int, max_bytes: float = float("inf")) -> list[str]:
        """Removes what is no longer needed after `newest` was committed; returns the removed tags.

        What claims to be later than `newest` is damage that a resume passed over, and goes. A best checkpoint takes
        the place of the best before it; of the regular ones the last `keep` stay, fewer where all together exceed
        `max_bytes`. `newest` itself always stays.
        """
        others = [tag for tag in self.tags() if tag != newest]
        removed = [tag for tag in others if place(tag)[0] > place(newest)[0]]
        removed += [tag for tag in others if is_best(newest) and is_best(tag) and tag not in removed]
        regular = [tag for tag in others if not is_best(tag) and tag not in removed]
        removed += regular[max(keep, 1) - (not is_best(newest)) :]
        kept = [tag for tag in regular if tag not in removed]
        while kept and sum(self._size(tag) for tag in others + [newest] if tag not in removed) > max_bytes:
            removed.append(kept.pop())
        for tag in removed:
            # Under another name first: a kill in the middle must not leave half a checkpoint under its own.
            os.rename(self.folder / tag, self.folder / f"{REPLACED}{tag}")
            shutil.rmtree(self.folder / f"{REPLACED}{tag}")
        return removed

    def _size(self, tag: str) -> int:
        return sum(path.stat().st_size for path in (self.folder / tag).rglob("*") if path.is_file())
