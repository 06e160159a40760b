"""A test that cannot fail proves nothing: known faults are put back, one at a time, and the tests must notice."""

import pytest

pytest.importorskip("openrlhf")

from faults import FAULTS, ROOT, Fault, copy, noticed, run


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_test_notices(fault: Fault, tmp_path) -> None:
    done = fault.run(tmp_path)
    assert noticed(fault.test, done.stdout), done.stdout + done.stderr


def test_without_a_fault_they_pass(tmp_path) -> None:
    """Or what they notice could be the copy."""
    done = run(list(dict.fromkeys(fault.test for fault in FAULTS)), tmp_path, copy(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_names_them_all() -> None:
    page = (ROOT / "docs" / "90-exactness.md").read_text(encoding="utf-8")
    rows = [f"| {fault.name} | `{fault.test.removeprefix('tests/')}` |" for fault in FAULTS]
    assert not [row for row in rows if row not in page]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("FAILED tests/a.py::test_b - AssertionError: no", True),
        ("FAILED tests/a.py::test_b[x-1] - assert 1 == 2", True),
        ("FAILED tests/a.py::test_b - Failed: DID NOT RAISE <class 'ValueError'>", True),
        ("FAILED tests/a.py::test_b - KeyError: 'x'", False),
        ("FAILED tests/a.py::test_bc - assert 1 == 2", False),
        ("ERROR tests/a.py::test_b - AssertionError: in a fixture", False),
    ],
)
def test_only_an_assertion_of_the_named_test_counts(line: str, counts: bool) -> None:
    assert noticed("tests/a.py::test_b", f"..F\n{line}\n1 failed") == counts
