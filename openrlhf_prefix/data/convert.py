"""From a published layout to the contract's JSON lines, one row at a time, whatever the size of the file.

Rows stream from data/files.py through a reader of data/formats into a file of a temporary name, which is renamed when
all went well: OUT is complete or not there. Every row gets an id that stays with it: its own, or FILE-ROW of the
source. A row that cannot be read stops the import, or is left out and counted.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openrlhf_prefix.data.files import count, iterate
from openrlhf_prefix.data.formats import FORMATS
from openrlhf_prefix.data.rows import SHOWN, Columns, parse
from openrlhf_prefix.errors import UserError


@dataclass
class Converted:
    """What an import made."""

    rows: int = 0
    demonstrations: int = 0
    bare: int = 0  # rows without a demonstration
    rejected: int = 0  # demonstrations that the data set itself marks as wrong
    skipped: int = 0  # rows left out
    faults: list[str] = field(default_factory=list)  # of the first SHOWN skipped ones

    def text(self) -> str:
        """The closing line."""
        return (
            f"{self.rows} rows with {self.demonstrations} demonstrations; {self.bare} rows without any, "
            f"{self.rejected} demonstrations marked as wrong left out, {self.skipped} rows skipped"
        )


def convert(format_name: str, source: str, target: Path, skip_bad: bool = False, progress: bool = True) -> Converted:
    """Writes the rows of `source`, a layout of FORMATS, to `target`.

    Args:
        skip_bad: leave unreadable rows out and count them, instead of stopping after the first SHOWN of them.

    Raises:
        UserError: an unknown layout, a target that exists or is no .jsonl, unreadable rows, or no row at all.
    """
    if format_name not in FORMATS:
        raise UserError(f"unknown format {format_name!r}: choose one of {', '.join(FORMATS)}")
    if target.suffix.lower() != ".jsonl":
        raise UserError(f"{target} must end in .jsonl: the rows are written as JSON lines")
    if target.exists():
        raise UserError(f"{target} exists already: remove it, or choose another name")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {str(target.parent)!r} for {target.name}: make it first")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        made = _write(format_name, source, temporary, skip_bad, progress)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return made


def _write(format_name: str, source: str, path: Path, skip_bad: bool, progress: bool) -> Converted:
    made, seen, stem = Converted(), {}, Path(source).stem
    rows = tqdm(iterate(source), total=count(source), unit=" rows", disable=not progress, dynamic_ncols=True)
    with path.open("w", encoding="utf-8") as out, rows:
        for number, row in rows:
            fault = _one(format_name, number, row, stem, seen, out, made)
            if fault is None:
                continue
            made.skipped += 1
            if made.skipped <= SHOWN:
                made.faults.append(fault)
            if made.skipped == SHOWN and not skip_bad:
                break
    if made.skipped and not skip_bad:
        raise UserError(f"{source}: {'; '.join(made.faults)} (--skip_bad leaves such rows out and counts them)")
    if not made.rows:
        raise UserError(f"{source} holds no rows" + (f" that can be used: {made.faults[0]}" if made.faults else ""))
    return made


def _one(
    format_name: str, number: int, row: Any, stem: str, seen: dict[str, int], out: Any, made: Converted
) -> str | None:
    """Writes what one row becomes; what is wrong with it otherwise."""
    read = row if isinstance(row, str) else FORMATS[format_name](row)
    if isinstance(read, str):
        return f"row {number} {read}"
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
