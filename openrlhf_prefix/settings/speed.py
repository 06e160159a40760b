"""Flags of what saves time or memory and leaves the gradient as it is."""

import argparse

OLD_LOG_PROBS = ("auto", "always")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds them beside OpenRLHF's own flags of the actor."""
    group = parser.add_argument_group("actor", "beside OpenRLHF's own actor flags")
    group.add_argument(
        "--actor.old_log_probs",
        choices=OLD_LOG_PROBS,
        default="auto",
        help="auto: where a rollout batch is one optimizer step, those of the training pass itself, whose ratio is 1; "
        "always: a pass of their own over all rows",
    )
