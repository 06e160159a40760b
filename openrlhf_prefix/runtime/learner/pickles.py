"""What the pickles of a checkpoint may name: tensors, plain values and a few classes of DeepSpeed, nothing else.

A pickle names functions, and loading it calls them. DeepSpeed loads its files with weights_only=False, so that whoever
made a checkpoint could run code in the job that goes on from it; here PyTorch's restricted loader reads them all
(https://docs.pytorch.org/docs/stable/notes/serialization.html#weights-only).
"""

import contextlib
import importlib
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from openrlhf_prefix.errors import UserError

# Of DeepSpeed's optimizer states; plain data without code that runs when it is loaded.
ALLOWED = (
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)
_FORCE, _FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def restricted(checkpoint: Path) -> Iterator[None]:
    """While the block runs every torch.load of this process, of DeepSpeed too, refuses what is not ALLOWED.

    Raises:
        UserError: something in `checkpoint` is refused; nothing of it has run.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORBID)}
    os.environ[_FORCE] = "1"
    try:
        with torch.serialization.safe_globals([_named(name) for name in ALLOWED]):
            yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL \S+", str(error))  # among much advice
        raise UserError(refusal(checkpoint, named[0] if named else "PyTorch's restricted loader refuses it")) from None
    finally:
        os.environ.pop(_FORCE)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _named(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def refusal(path: Path, why: str) -> str:
    """The sentence about a pickle with something else in it."""
    return (
        f"{path} holds more than weights and states: {why}. This program never writes that, and loading it could run "
        "code of whoever made the file: nothing was loaded; take a checkpoint that you know"
    )


def check(checkpoint: Path) -> None:
    """The same look at all files, before anything is loaded. Raises UserError.

    It reads the names in the pickles, not the tensors; restricted() is what enforces the list.
    """
    for path in sorted(checkpoint.glob("*.pt")):
        try:
            found = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - set(ALLOWED)
        except (ValueError, RuntimeError, pickle.UnpicklingError, EOFError, AssertionError) as error:
            raise UserError(refusal(path, f"its pickle is none of torch.save ({error})")) from None
        if found:
            raise UserError(refusal(path, f"it names {', '.join(sorted(found))}"))
