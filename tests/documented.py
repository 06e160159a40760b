"""The keys that docs/reading-a-run.md explains: what its tables have between backticks in their first two columns."""

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reading-a-run.md"
TOKEN = re.compile(r"`([a-z0-9_/.<>]+)`")


def patterns() -> list[re.Pattern]:
    """One for every key; <n> or <source> in it stands for anything."""
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    keys = [key for row in rows for key in TOKEN.findall(row)]
    return [re.compile(re.sub(r"<\w+>", ".+", re.escape(key))) for key in keys]


def undocumented(keys: Iterable[str]) -> set[str]:
    known = patterns()
    return {key for key in keys if key != "step" and not any(pattern.fullmatch(key) for pattern in known)}
