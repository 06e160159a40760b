"""The pages hold together: every relative link, and the heading that it names, is there."""

import re
from pathlib import Path

import pytest

from openrlhf_prefix.algorithm.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Names that GitHub gives to the headings of a page: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page to a file or heading that is not there."""
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page):
    assert broken_links(page) == []


def test_a_link_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One `flag`, two\n[a](gone.md) [b](#one-flag-two) [c](page.md#two) [d](https://x.org/y.md)\n")
    assert broken_links(page) == ["gone.md", "page.md#two"]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_has_a_row_on_the_page_of_methods(preset):
    (page,) = (ROOT / "docs").glob("*methods*.md")
    assert any(line.startswith(f"| `{preset}` |") for line in page.read_text().splitlines())
