"""What a stranger reads stays short and true: README, pages, keys of a run, citation."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from documented import undocumented

import openrlhf_prefix

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "openrlhf_prefix"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
MAX_WORDS, MAX_LINES = 1000, 200
LONGER = {"flags.md": "all flags in one place, generated", "40-rewards.md": "accuracy by kind in one table"}
FAMILIES = (
    "reward",
    "rollout",
    "prefix",
    "verifier",
    "sync",
    "timing",
    "rescue",
    "sft",
    "train",
    "checkpoint",
    "memory",
)
KEY = re.compile(rf"(({'|'.join(FAMILIES)})/[a-z_]+|eval_[a-z_]+)")


def lines_of_code(path: Path) -> int:
    """Lines without blanks, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    left_out = {number for number, line in enumerate(lines, 1) if not line.strip() or line.strip().startswith("#")}
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            left_out |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines) - len(left_out)


def test_lines_are_counted_without_blanks_comments_and_docstrings(tmp_path):
    path = tmp_path / "some.py"
    path.write_text('"""Two\n\nlines."""\n\n# why\nx = 1  # counts\n\n\ndef f():\n    """Doc."""\n    return x\n')
    assert lines_of_code(path) == 3


def test_the_readme_is_short():
    assert len(README.split()) <= MAX_WORDS


def test_the_readme_knows_the_size_of_the_library():
    (said,) = re.findall(r"([\d,]+) lines of Python", README)
    real = sum(lines_of_code(path) for path in PACKAGE.rglob("*.py"))
    assert abs(int(said.replace(",", "")) - real) <= 0.05 * real, f"README says {said}, write {round(real, -2):,}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_short_or_has_a_reason(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_LINES or LONGER.get(page.name)


def test_the_readme_leads_to_every_page():
    assert not [page.name for page in PAGES if f"(docs/{page.name}" not in README]


def test_every_key_in_the_code_is_explained():
    constants = [
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    keys = {text for text in constants if KEY.fullmatch(text) and not text.endswith("_")}
    assert {"reward/plain", "prefix/kept", "eval_truncated_rate"} <= keys
    assert not undocumented(keys)


def test_a_key_that_nobody_explains_is_found():
    keys = {"step", "reward/plain", "eval_chains_pass1", "prefix/reward_0.25_0.5", "reward/unheard_of"}
    assert undocumented(keys) == {"reward/unheard_of"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == openrlhf_prefix.__version__
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2507.01679"
