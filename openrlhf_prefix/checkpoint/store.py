"""The folder of a run's checkpoints: which is the newest complete one, how a new one gets its name, which ones go.

A checkpoint is written under a name that nobody looks for, and renamed when it is complete; older ones are removed
only then. So at every moment of a save the newest complete checkpoint is on the disk under its own name. What a resume
passed over is never removed: it gets a name that nobody looks for, and stays until a person has looked at it.
"""

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.errors import UserError

PARTIAL, REPLACED, ASIDE = ".partial_", ".replaced_", "passed_over_"
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
    whole: list[str] = field(default_factory=list)  # names of those that once were complete, or may have been


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
        """Names of all checkpoints, complete or not, the newest first. OSError where the folder cannot be read."""
        names = [name for name in self._names() if _TAG.fullmatch(name) and (self.folder / name).is_dir()]
        return sorted(names, key=place, reverse=True)

    def _names(self, prefix: str = "") -> list[str]:
        """Of everything in the folder, by os.listdir: Path.glob hides what it may not read."""
        try:
            return sorted(name for name in os.listdir(self.folder) if name.startswith(prefix))
        except FileNotFoundError:
            return []

    def choose(self) -> Choice:
        """The newest checkpoint that is complete; reads every byte of it, and changes nothing.

        Raises:
            Unreadable: one could not be read, so that it is not known which is the newest.
        """
        with manifest.reading(self.folder):
            choice = Choice()
            for name in self._names(PARTIAL):
                choice.passed_over.append(f"{name.removeprefix(PARTIAL)}: the save was not finished")
                choice.whole += [name] if (self.folder / name / manifest.NAME).exists() else []
            for tag in self.tags():
                try:
                    choice.checkpoint = Checkpoint(self.folder / tag, manifest.verify(self.folder / tag))
                    break
                except manifest.Damaged as damage:
                    if not (self.folder / tag).exists():  # a run that is saving has removed it: there is a newer one
                        return self.choose()
                    choice.passed_over.append(f"{tag}: {damage}")
                    choice.whole.append(tag)
            return choice

    def set_aside(self, choice: Choice) -> list[Path]:
        """Gives what was passed over another name, so that no save of the run touches it; returns the new paths.

        A save that was killed before its manifest never was a checkpoint: the next save removes it.

        Raises:
            UserError: the folder cannot be changed.
        """
        try:
            return [self._aside(name) for name in choice.whole]
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be changed ({error.strerror}), so that no checkpoint would be saved: see to "
                "its permissions, or give another --ckpt.path"
            ) from None

    def _aside(self, name: str) -> Path:
        return self._renamed(name, f"{ASIDE}{name.removeprefix(PARTIAL)}")

    def _renamed(self, name: str, new: str) -> Path:
        """Renames an entry to `new`, or where that is taken to new_2, new_3 ..."""
        taken, path, number = set(self._names(new)), self.folder / new, 1
        while path.name in taken:
            number += 1
            path = self.folder / f"{new}_{number}"
        os.rename(self.folder / name, path)
        return path

    def begin(self, tag: str) -> Path:
        """An empty folder for the files of `tag`; what this run left unfinished or half removed goes."""
        place(tag)
        for leftover in [*self._names(PARTIAL), *self._names(REPLACED)]:
            self._remove(leftover)
        partial = self.folder / f"{PARTIAL}{tag}"
        partial.mkdir(parents=True)
        return partial

    def commit(self, tag: str) -> Path:
        """Gives the finished folder of begin() its name; one of that name is set aside."""
        final = self.folder / tag
        if final.exists():
            self._aside(tag)
        os.rename(self.folder / f"{PARTIAL}{tag}", final)
        manifest.sync(self.folder)
        return final

    def prune(self, newest: str, keep: int, max_bytes: float = float("inf")) -> list[str]:
        """Removes what is no longer needed after `newest` was committed; returns the removed tags.

        What claims to be later than `newest` is none of this run's and is set aside. A best checkpoint takes the place
        of the best before it; of the regular ones the last `keep` stay, fewer where all together exceed `max_bytes`.
        `newest` itself always stays.
        """
        for tag in self.tags():
            if place(tag)[0] > place(newest)[0]:
                self._aside(tag)
        others = [tag for tag in self.tags() if tag != newest]
        removed = [tag for tag in others if is_best(newest) and is_best(tag)]
        regular = [tag for tag in others if not is_best(tag)]
        removed += regular[max(keep, 1) - (not is_best(newest)) :]
        kept = [tag for tag in regular if tag not in removed]
        while kept and sum(self._size(tag) for tag in others + [newest] if tag not in removed) > max_bytes:
            removed.append(kept.pop())
        for tag in removed:
            # Under another name first: a kill in the middle must not leave half a checkpoint under its own.
            self._remove(self._renamed(tag, f"{REPLACED}{tag}").name)
        return removed

    def leftovers(self) -> int:
        """How many folders could not be removed so far; the next save tries again."""
        return len(self._names(REPLACED))

    def _remove(self, name: str) -> None:
        """Removes a folder, or leaves the rest under a name that leftovers() counts: on NFS a file that somebody still
        reads keeps its folder, and that is no reason for a run to end."""
        if not name.startswith(REPLACED):
            name = self._renamed(name, f"{REPLACED}{name.removeprefix(PARTIAL)}").name
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _size(self, tag: str) -> int:
        return sum(path.stat().st_size for path in (self.folder / tag).rglob("*") if path.is_file())
