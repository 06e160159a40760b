"""Sentences about rows, those of one kind as one sentence with a count.

    row 1 has no answer (column 'answer'); the same in 2047 more rows (2, 3, 4, 5, ...)

Two sentences are of one kind when they differ in numbers alone.
"""

import re
from collections.abc import Iterable

from openrlhf_prefix.errors import UserError

SHOWN = 5  # kinds, and further rows of each, that are named
_NUMBER = re.compile(r"\d+")
_ROW = re.compile(r"\brow (\d+)")


class Faults:
    """Counts sentences by kind, whatever their number: of each kind the first one and a few row numbers are kept."""

    def __init__(self, sentences: Iterable[str] = ()) -> None:
        self.total = 0
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._rows: dict[str, list[str]] = {}
        for sentence in sentences:
            self.add(sentence)

    def add(self, sentence: str) -> None:
        self.total += 1
        kind = _NUMBER.sub("#", sentence)
        if kind not in self._first and len(self._first) == SHOWN:
            return
        self._first.setdefault(kind, sentence)
        self._count[kind] = self._count.get(kind, 0) + 1
        rows = self._rows.setdefault(kind, [])
        if self._count[kind] > 1 and len(rows) < SHOWN - 1:
            rows += _ROW.findall(sentence)[:1]

    def lines(self) -> list[str]:
        """One a kind, at most SHOWN, and the number of the others."""
        lines = [self._line(kind) for kind in self._first]
        others = self.total - sum(self._count.values())
        return lines + ([f"and {others} more"] if others else [])

    def _line(self, kind: str) -> str:
        more, rows = self._count[kind] - 1, self._rows[kind]
        if not more:
            return self._first[kind]
        places = f" ({', '.join(rows)}{', ...' if more > len(rows) else ''})" if rows else ""
        return f"{self._first[kind]}; the same in {more} more row{'s' if more > 1 else ''}{places}"


def refuse(name: str, bad: Iterable[str], hint: str = "") -> None:
    """Raises UserError with the faults, if there are any. `hint`: a mend for all of them."""
    faults = Faults(bad)
    if faults.total:
        raise UserError(f"{name}: {'; '.join(faults.lines())}{hint and f'. {hint}'}")
