"""Seconds of a run that was started more than once."""

import time

import pytest

from openrlhf_prefix.runtime.controller.times import Clock


def test_a_run_counts_the_seconds_of_all_its_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 steps in 100 s, saved, 7 s of a fifth are lost; then 8 steps in 150 s more."""
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    first = Clock()
    now[0] += 100
    saved = first.state_dict()
    now[0] += 7
    assert first.summary(4) == {"steps": 4, "seconds": 107.0, "this_start": {"steps": 4, "seconds": 107.0}}
    now[0] += 5000
    second = Clock()
    now[0] += 30  # engines and trainers start
    second.begin()
    second.load_state_dict(saved)
    second.first_step = 4
    now[0] += 150
    assert second.summary(12) == {"steps": 12, "seconds": 250.0, "this_start": {"steps": 8, "seconds": 150.0}}
    assert second.state_dict() == {"seconds": 250.0}
