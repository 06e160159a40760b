"""What `data check` found in a file, and how it is shown: a table with a column a file, then the findings by name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openrlhf_prefix.data.faults import Faults

PERCENTILES = (50, 90, 99, 100)

BROKEN, IDS, GOLDS, LONG, LEAKED = "breaks the contract", "id used twice", "unreadable gold", "too long", "leaked"
BARE, REJECTED, REPEATED, DOUBLED = "no demonstration", "rejected demonstration", "repeated problem", "doubled <think>"
ERRORS, WARNINGS = (BROKEN, IDS, GOLDS, LONG, LEAKED), (BARE, REJECTED, REPEATED, DOUBLED)


@dataclass
class Survey:
    """What was found in one file."""

    name: str
    rows: int = 0
    demonstrations: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in ERRORS + WARNINGS})
    advice: list[str] = field(default_factory=list)  # about the file as a whole
    prompt_lengths: list[int] = field(default_factory=list)
    demonstration_lengths: list[int] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=lambda: {BROKEN, IDS, REPEATED})
    questions: dict[bytes, int] = field(default_factory=dict)  # digest -> row
    examples: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, sentence: str) -> None:
        self.findings[kind].append(f"{self.name}: row {number} {sentence}")

    @property
    def errors(self) -> int:
        return sum(len(self.findings[kind]) for kind in ERRORS)

    def lines(self, show: int) -> Iterator[str]:
        """All findings, one a line; of a kind with more than `show`, those alike as one line with a count."""
        for kinds, word in ((ERRORS, "error"), (WARNINGS, "warning")):
            for kind in kinds:
                sentences = self.findings[kind]
                if len(sentences) <= show:
                    yield from (f"{word}: {sentence}" for sentence in sentences)
                    continue
                yield from (f"{word}: {line}" for line in Faults(sentences).lines())
                yield f"{word}: {self.name}: {len(sentences)} of '{kind}' in all (--show {len(sentences)} names each)"
        yield from (f"warning: {self.name}: {sentence}" for sentence in self.advice)


def table(surveys: Sequence[Survey], unit: str, max_len: int | None = None, budget: int | None = None) -> str:
    """One column a file: rows, findings, and percentiles of the lengths, in characters or tokens."""
    lines = [["", *(Path(found.name).name for found in surveys)]]
    lines += [["rows", *(str(found.rows) for found in surveys)]]
    lines += [["demonstrations", *(str(found.demonstrations) for found in surveys)]]
    for kinds, word in ((ERRORS, "error"), (WARNINGS, "warning")):
        lines += [[f"{word}: {kind}", *(_number(found, kind) for found in surveys)] for kind in kinds]
    lines += [[f"prompt {unit}, {_NAMES}", *(_percentiles(found.prompt_lengths) for found in surveys)]]
    lines += [[f"demonstration {unit}, {_NAMES}", *(_percentiles(found.demonstration_lengths) for found in surveys)]]
    if max_len and budget:
        lines += [["context: prompt / response", *([f"{max_len - budget} / {budget}"] * len(surveys))]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


_NAMES = " / ".join("max" if percentile == 100 else f"p{percentile}" for percentile in PERCENTILES)


def _number(found: Survey, kind: str) -> str:
    """How many findings; a dash for what was not looked at."""
    return str(len(found.findings[kind])) if kind in found.looked_at else "-"


def _percentiles(lengths: Sequence[int]) -> str:
    if not lengths:
        return "-"
    return " / ".join(str(value) for value in np.percentile(lengths, PERCENTILES, method="higher"))
