"""A run stops while there is still time to save."""

import pytest

from openrlhf_prefix.checkpoint.timing import must_stop


@pytest.mark.parametrize(
    ("elapsed", "longest", "stops"),
    [
        (2900, 320, False),  # ends at 3220, and 3300 is when the save must begin
        (2980, 320, False),  # ends at 3300 exactly
        (2981, 320, True),
        (3000, 0, False),  # no step was measured yet
        (3301, 0, True),
    ],
)
def test_one_more_step_must_fit_before_the_save(elapsed: float, longest: float, stops: bool) -> None:
    assert must_stop(elapsed, longest, limit=3600, before=300) is stops


def test_without_a_limit_a_run_never_stops() -> None:
    assert not must_stop(1e9, 1e9, limit=None, before=300)
