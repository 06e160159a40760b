"""What the processes of one run share beside its flags.

OpenRLHF's train() hands its `args` from the driver on to the controller and to every rank, and nothing else; so one
attribute of `args` holds this. The controller takes it off before it starts a tracker, which would log it as a flag.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

ATTRIBUTE = "context"


@dataclass(frozen=True)
class RunContext:
    """Decided once, in the driver."""

    started: float  # time.time() at which the command began
    checkpoint: str | None = None  # tag of the one that the run goes on from
    facts: dict[str, Any] = field(default_factory=dict, repr=False)  # what its checkpoints say, checkpoint/identity.py
    problems: "ObjectRef | None" = field(default=None, repr=False)  # (training, held-out, of mask.file)
    board: "ActorHandle | None" = field(default=None, repr=False)  # driver/progress.py

    def attach(self, args: SimpleNamespace) -> None:
        setattr(args, ATTRIBUTE, self)


def of(args: SimpleNamespace) -> RunContext:
    """The context that `args` carries."""
    return getattr(args, ATTRIBUTE)


def take(args: SimpleNamespace) -> RunContext:
    """The same, which this process's `args` no longer carries."""
    context = of(args)
    delattr(args, ATTRIBUTE)
    return context
