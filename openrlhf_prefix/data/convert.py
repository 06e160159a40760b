"""From a published layout to the contract's JSON lines, one row at a time, whatever the size of the file.

Rows stream from data/files.py through a reader of data/formats into a file of a temporary name, which is renamed when
all went well: OUT is complete or not there. Every row gets an id that stays with it: its own, or FILE-ROW of the
source. A row that cannot be read stops the import, or is left out and counted.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from openrlhf_prefix.data.faults import SHOWN, Faults
from openrlhf_prefix.data.files import count, iterate
from openrlhf_prefix.data.formats import FORMATS, Format, named_like, nearest
from openrlhf_prefix.data.messages import images_of
from openrlhf_prefix.data.rows import Columns, parse
from openrlhf_prefix.errors import UserError


@dataclass
class Converted:
    """What an import made."""

    rows: int = 0
    demonstrations: int = 0
    bare: int = 0  # rows without a demonstration
    rejected: int = 0  # demonstrations that the data set itself marks as wrong
    faults: Faults = field(default_factory=Faults)  # of rows left out

    @property
    def skipped(self) -> int:
        return self.faults.total

    def text(self) -> str:
        """The closing line."""
        return (
            f"{self.rows} rows with {self.demonstrations} demonstrations; {self.bare} rows without any, "
            f"{self.rejected} demonstrations marked as wrong left out, {self.skipped} rows skipped"
        )


def convert(
    format_name: str, source: str, target: Path, skip_bad: bool = False, progress: bool = True, split: str = "train"
) -> Converted:
    """Writes the rows of `source`, a layout of FORMATS, to `target`.

    Args:
        split: of a `datasets` folder or hub name.
        skip_bad: leave unreadable rows out and count them, instead of stopping after the first SHOWN of them.

    Raises:
        UserError: an unknown layout, a target that exists or is no .jsonl, unreadable rows, or no row at all.
    """
    if format_name not in FORMATS:
        raise UserError(f"unknown format {format_name!r}: {_advice(format_name, source)}")
    with new_file(target) as out:
        return _write(FORMATS[format_name], iterate(source, split), source, out, skip_bad, progress)


@contextmanager
def new_file(target: Path) -> Iterator[TextIO]:
    """Open for writing under a temporary name, which becomes `target` when all went well. UserError for a bad name."""
    check_target(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            yield out
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(target: Path) -> None:
    """UserError where no JSON lines can be written to it, or something is there."""
    if target.suffix.lower() != ".jsonl":
        raise UserError(f"{target} must end in .jsonl: the rows are written as JSON lines")
    if target.exists():
        raise UserError(f"{target} exists already: remove it, or choose another name")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {str(target.parent)!r} for {target.name}: make it first")


def _advice(format_name: str, source: str) -> str:
    """The reader that a wrong name may mean, else the one that fits the columns of the file."""
    layout = named_like(format_name)
    if layout is not None:
        return f"did you mean {layout.name} ({layout.sets})? data import --list names all"
    known = f"choose one of {', '.join(FORMATS)} (data import --list)"
    try:
        row = next((row for _, row in iterate(source, limit=1) if isinstance(row, dict)), {})
    except UserError:  # the file is the next thing to mend, not this one
        return known
    layout = nearest(row)
    return known if layout is None else f"{known}; nearest to the columns of {source} is {layout.name} ({layout.sets})"


def _write(layout: Format, found: Any, source: str, out: TextIO, skip_bad: bool, progress: bool) -> Converted:
    made, stem = Converted(), Path(source).stem
    seen: dict[str, int] = {}
    rows = tqdm(found, total=count(source), unit=" rows", disable=not progress, dynamic_ncols=True)
    other: Format | None = None  # the layout that the first bad row seems to have
    with rows:
        for number, row in rows:
            fault = _one(layout, number, row, stem, seen, out, made)
            if fault is None:
                continue
            if not made.skipped and isinstance(row, dict):
                other = nearest(row)
            made.faults.add(fault)
            if made.skipped == SHOWN and not skip_bad:
                break
    hint = ""
    if other is not None and other is not layout:
        hint = f". Its columns are nearest to those of {other.sets}: data import {other.name}"
    lines = "; ".join(made.faults.lines())
    if made.skipped and not skip_bad:
        raise UserError(f"{source}: {lines} (--skip_bad leaves such rows out and counts them){hint}")
    if not made.rows:
        raise UserError(f"{source} holds no rows" + (f" that can be used: {lines}{hint}" if lines else ""))
    return made


def _one(
    layout: Format, number: int, row: Any, stem: str, seen: dict[str, int], out: Any, made: Converted
) -> str | None:
    """Writes what one row becomes; what is wrong with it otherwise."""
    read = row if isinstance(row, str) else layout(row)
    if isinstance(read, str):
        return f"row {number} {read}"
    if images := images_of(row):
        return f"row {number} has images in column {images!r}, and prefixes are of text alone"
    for index, found in enumerate(read):
        found = {"id": f"{stem}-{number}" + (f"-{index}" if index else ""), **found}
        faults: list[str] = []
        if parse(number, found, Columns(), faults) is None:
            return faults[0]
        if str(found["id"]) in seen:
            return f"row {number} has the id {found['id']!r} of row {seen[str(found['id'])]}"
        seen[str(found["id"])] = number
        out.write(json.dumps(found, ensure_ascii=False) + "\n")
        made.rows += 1
        made.demonstrations += len(found["demonstrations"])
        made.bare += not found["demonstrations"]
        made.rejected += found.get("rejected_demonstrations", 0)
    return None
