"""Saving and restoring everything that a bit-exact continuation needs, on all ranks.

    rank 0       opens the folder under a name that nobody looks for
    every rank   writes its DeepSpeed share and its random number generators
    rank 0       writes the controller's state and an export without weights
    every rank   brings what it wrote to the disk and takes the checksums
    rank 0       sees that this is the folder, writes the manifest, renames the folder, removes what is not needed

A kill at any of these lines leaves the checkpoints before it as they were (checkpoint/store.py). Which files a rank
wrote is noted as it writes them: a shared file system may show it an old list of names.
"""

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import PARTIAL, Store, place
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.learner import pickles
from openrlhf_prefix.runtime.platform import adapter

CONTROLLER = "controller.pt"
COMPANIONS = "hf"  # folder of an export's files beside the weights
SEEN_SECONDS = 120.0  # in which rank 0 has to see the files of the others; NFS keeps an old list for up to 60


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


def local(parameter: torch.nn.Parameter) -> torch.Tensor:
    """What this rank holds of a parameter: its shard under ZeRO-3, else all of it."""
    return (parameter.ds_tensor if hasattr(parameter, "ds_tensor") else parameter).data


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


def folder_of(args: Any) -> Path:
    """Where the checkpoints of a run are; OpenRLHF's place for those of its policy."""
    return Path(args.ckpt.path) / "_actor"


def confirm(checkpoint: Path) -> None:
    """This process sees the checkpoint that the driver has compared. Raises RunStopped.

    DeepSpeed only warns where there is none, and would go on with the weights of the start.
    """
    try:
        manifest.read(checkpoint)
    except (manifest.Damaged, manifest.Unreadable) as error:
        raise RunStopped(
            f"{socket.gethostname()} does not find {checkpoint} as the driver has compared it ({error}): it was moved "
            "since, or that node does not see the shared folder"
        ) from None


def loader(load: Callable[..., Any], checkpoint: Path) -> Callable[..., Any]:
    """OpenRLHF's load_ckpt for this checkpoint, by the restricted loader of pickles.py."""

    def load_restricted(engine: Any, *args: Any, **kwargs: Any) -> Any:
        with pickles.restricted(checkpoint):
            loaded = load(engine, *args, tag=checkpoint.name, **kwargs)
        drop_sleeping_copies(engine.optimizer.optimizer)
        return loaded

    return load_restricted


def drop_sleeping_copies(optimizer: torch.optim.Optimizer) -> None:
    """Takes the buffers of a sleeping optimizer out of its state; it makes new ones when it sleeps again.

    A run with ds.enable_sleep saves asleep: DeepSpeed's host buffers of Adam's moments are in the checkpoint. A resume
    puts them on the GPU beside the moments, where they would stay: 8 bytes a parameter.
    """
    # Not above: the driver imports this module, and DeepSpeed, imported, asks at once what it is to compute on.
    from deepspeed.runtime.zero.offload_states import _make_offload_state_key

    for state in optimizer.state.values():
        for moment in ("exp_avg", "exp_avg_sq"):
            state.pop(_make_offload_state_key(moment), None)


def load_controller(checkpoint: Path) -> dict[str, Any]:
    """What save() was given as `controller`."""
    return torch.load(checkpoint / CONTROLLER, weights_only=True)


def rank_file(rank: int) -> str:
    return f"rank_{rank}.pt"


def load_rank(checkpoint: Path, parts: Mapping[str, Stateful]) -> None:
    """Restores the parts of this rank."""
    unpack(parts, torch.load(checkpoint / rank_file(dist.get_rank()), weights_only=True))


def save(
    engine: Any,
    store: Store,
    tag: str,
    parts: Mapping[str, Stateful],
    controller: Mapping[str, Any],
    facts: Mapping[str, Any],
    companions: Callable[[Path], None],
) -> None:
    """Writes one complete checkpoint; all ranks have to call this.

    Args:
        engine: of DeepSpeed, between two optimizer steps.
        parts: of this rank.
        controller: state of the controller process, the same on all ranks.
        facts: for the manifest.
        companions: fills a folder with the files of an export beside its weights; called by rank 0.

    Raises:
        RunStopped: a weight is not finite; nothing was written.
    """
    refuse_nonfinite(engine.module)
    rank, partial = dist.get_rank(), store.folder / f"{PARTIAL}{tag}"
    with written_or_stopped(tag):
        if rank == 0:
            store.begin(tag)
        dist.barrier()
        with noted(engine) as written:
            engine.save_checkpoint(str(store.folder), tag=partial.name, save_latest=False)
        written.append(partial / rank_file(rank))
        torch.save(pack(parts), written[-1])
        if rank == 0:
            written += [partial / CONTROLLER, partial / COMPANIONS]
            torch.save(dict(controller), partial / CONTROLLER)
            companions(partial / COMPANIONS)
        sealed: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(sealed, manifest.seal(partial, names_of(written, partial)))
        if rank == 0:
            files = {name: entry for part in sealed for name, entry in part.items()}
            wait_for_all(partial, files)
            manifest.write(partial, files, {**facts, "tag": tag, "step": place(tag)[0]})
            store.commit(tag)
        dist.barrier()


@contextlib.contextmanager
def written_or_stopped(tag: str) -> Iterator[None]:
    """What keeps the block from writing (a full disk, a mount that is gone) ends the run with a sentence."""
    try:
        yield
    except RunStopped:
        raise
    except (OSError, RuntimeError) as error:  # PyTorch's writer has no OSError
        raise RunStopped(
            f"{tag} could not be saved by rank {dist.get_rank()} on {socket.gethostname()} ({error}): the checkpoints "
            "before it are as they were; the same command with --ckpt.load_enable goes on after the last of them"
        ) from error


@contextlib.contextmanager
def noted(engine: Any) -> Iterator[list[Path]]:
    """The files that DeepSpeed writes on this rank while the block runs."""
    writer, written = engine.checkpoint_engine, []

    def save(state_dict: Any, path: str) -> None:
        written.append(Path(path))
        type(writer).save(writer, state_dict, path)

    writer.save = save
    try:
        yield written
    finally:
        del writer.save


def names_of(written: list[Path], folder: Path) -> list[str]:
    """Names of written files, and of the files of written folders, relative to `folder`."""
    files = [path / name for path in written if path.is_dir() for name in manifest.files_of(path)]
    files += [path for path in written if not path.is_dir()]
    return sorted({path.relative_to(folder).as_posix() for path in files})


def wait_for_all(folder: Path, files: Mapping[str, Mapping[str, Any]], seconds: float = SEEN_SECONDS) -> None:
    """Returns once `folder` is seen to hold what all ranks have sealed, and nothing else.

    Raises:
        RunStopped: it does not within `seconds`; the checkpoint would be refused by the resume.
    """
    deadline = time.monotonic() + seconds
    while True:
        missing, foreign = manifest.difference(folder, files)
        if foreign:
            raise RunStopped(
                f"{folder} holds {', '.join(foreign)}, which no rank has written: is another run saving there? Give "
                "each its own --ckpt.path"
            )
        if not missing:
            return
        if time.monotonic() > deadline:
            raise RunStopped(
                f"{socket.gethostname()} does not see {', '.join(missing[:3])} in {folder} (or not whole), "
                f"{seconds:g} s after a rank wrote it: --ckpt.path has to be one shared folder of all nodes, which "
                "shows what others write. The checkpoints before are as they were"
            )
        time.sleep(min(1.0, seconds / 10))


def refuse_nonfinite(model: torch.nn.Module) -> None:
    """Raises RunStopped on all ranks alike where a weight is NaN or infinite on any of them."""
    wrong = torch.zeros(1, device=torch.cuda.current_device())
    for parameter in model.parameters():
        wrong += (~local(parameter).isfinite().all()).to(wrong)
    dist.all_reduce(wrong)
    if wrong.item():
        raise RunStopped(
            f"{int(wrong.item())} weight tensors are not finite: they are not saved, and the checkpoints before "
            "them are as they were"
        )
