"""What a process has beside weights and optimizer that a continuation to the bit needs, by name."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.platform import adapter


class Stateful(Protocol):
    """A part of the controller process with state of its own; values must load with torch's weights_only."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Attributes:
    """Plain attributes of an object as a Stateful: Attributes(kl_controller, ["value"])."""

    owner: Any
    names: list[str]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self.owner, name) for name in self.names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.names:
            setattr(self.owner, name, state[name])


class Generators:
    """The random number generators of this process as a Stateful: Python, NumPy, PyTorch on CPU and GPU."""

    def state_dict(self) -> dict[str, Any]:
        kind, keys, *rest = np.random.get_state()
        return {
            "python": random.getstate(),
            "numpy": (kind, keys.tolist(), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if adapter.current().name == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kind, keys, *rest = state["numpy"]
        random.setstate(state["python"])
        np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])


def pack(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The states of all parts."""
    return {name: part.state_dict() for name, part in parts.items()}


def unpack(parts: Mapping[str, Stateful], states: Mapping[str, Any]) -> None:
    """Restores all parts; RunStopped where the checkpoint knows others than the run has."""
    if set(parts) != set(states):
        raise RunStopped(
            f"the checkpoint holds the state of {', '.join(sorted(states))}, this run has {', '.join(sorted(parts))}: "
            "it was saved with other flags or by another version"
        )
    for name, part in parts.items():
        part.load_state_dict(states[name])
