"""What a run's processes share travels with the flags, and is none."""

import copy
from types import SimpleNamespace

import pytest

from openrlhf_prefix.runtime import context
from openrlhf_prefix.runtime.context import RunContext

GIVEN = RunContext(12.5, "global_step3", {"flags": {"logger.wandb.key": "env"}}, problems="reference", board="board")


def test_it_travels_with_the_flags_and_is_taken_off_in_one_process_alone() -> None:
    """A controller takes it from its own copy of the flags; those of the ranks still carry it."""
    args = SimpleNamespace(actor=SimpleNamespace(lr=1e-6))
    GIVEN.attach(args)
    received = copy.deepcopy(args)
    assert context.take(received) == GIVEN and vars(received) == {"actor": args.actor}  # what a tracker logs
    assert context.of(args) is GIVEN


def test_upstreams_print_of_all_flags_shows_neither_facts_nor_handles() -> None:
    args = SimpleNamespace()
    GIVEN.attach(args)
    shown = str(args)
    assert "global_step3" in shown and not any(word in shown for word in ("wandb", "reference", "board"))


def test_flags_without_one_are_an_error() -> None:
    with pytest.raises(AttributeError, match="context"):
        context.take(SimpleNamespace())
