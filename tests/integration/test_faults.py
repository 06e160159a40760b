"""A test that cannot fail proves nothing: known faults are put back, one at a time, and the tests must notice."""

import pytest

pytest.importorskip("openrlhf")

from faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_test_notices(fault: Fault, tmp_path) -> None:
    done = fault.run(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr  # 1: tests ran and failed
    assert "AssertionError" in done.stdout or "assert" in done.stdout
