"""Saving and restoring everything that a bit-exact continuation needs, on all ranks.

    rank 0       opens the folder under a name that nobody looks for
    every rank   copies its DeepSpeed share and its random number generators; from here on the next step may run
    every rank   writes them
    rank 0       writes the controller's state and an export without weights
    every rank   brings what it wrote to the disk and takes the checksums
    rank 0       sees that this is the folder, writes the manifest, renames the folder, removes what is not needed

A kill at any of these lines leaves the checkpoints before it as they were (checkpoint/store.py). Which files a rank
wrote is known from what it was given: a shared file system may show it an old list of names.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.store import PARTIAL, Store, place
from openrlhf_prefix.errors import RunStopped
from openrlhf_prefix.runtime.learner import pickles
from openrlhf_prefix.runtime.learner.background import Background
from openrlhf_prefix.runtime.learner.states import Stateful, pack, unpack

CONTROLLER = "controller.pt"
COMPANIONS = "hf"  # folder of an export's files beside the weights
UNHARMED = (
    ": the checkpoints before it are as they were; the same command with --ckpt.load_enable goes on after the last of "
    "them"
)
SEEN_SECONDS = 120.0  # in which rank 0 has to see the files of the others; NFS keeps an old list for up to 60


def local(parameter: torch.nn.Parameter) -> torch.Tensor:
    """What this rank holds of a parameter: its shard under ZeRO-3, else all of it."""
    return (parameter.ds_tensor if hasattr(parameter, "ds_tensor") else parameter).data


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
    background: Background,
    after: Callable[[], Any],
) -> None:
    """Begins one checkpoint, which is complete when `background` says so; all ranks have to call this.

    Args:
        engine: of DeepSpeed, between two optimizer steps.
        parts: of this rank.
        controller: state of the controller process, the same on all ranks.
        facts: for the manifest.
        companions: fills a folder with the files of an export beside its weights; called by rank 0.
        background: of this rank.
        after: called by rank 0 when the checkpoint is complete.

    Raises:
        RunStopped: a weight is not finite, and nothing was written; or what kept this save or the last one from it.
    """
    refuse_nonfinite(engine.module)
    background.wait()
    started, rank, partial = time.time(), dist.get_rank(), store.folder / f"{PARTIAL}{tag}"
    with written_or_stopped(tag):
        if rank == 0:
            store.begin(tag)
        dist.barrier()
        with held_back(engine) as theirs:
            engine.save_checkpoint(str(store.folder), tag=partial.name, save_latest=False)
    ours = {str(partial / rank_file(rank)): pack(parts)}
    if rank == 0:
        ours[str(partial / CONTROLLER)] = dict(controller)
    copies = background.copied({"theirs": theirs, "ours": ours})

    def write() -> None:
        sealed = written(engine, copies, partial, companions if rank == 0 else None)
        with written_or_stopped(tag):
            files = of_all_ranks(sealed, tag, background.group)
            if rank == 0:
                wait_for_all(partial, files)
                manifest.write(partial, files, {**facts, "tag": tag, "step": place(tag)[0]})
                store.commit(tag)
                after()

    background.run(tag, started, write)


def written(engine: Any, states: dict[str, Any], folder: Path, companions: Callable[[Path], None] | None) -> Any:
    """Writes what one rank has, and lets go of it; returns its seals, or what kept it from that."""
    try:
        for path, state in states["theirs"].items():
            engine.checkpoint_engine.save(state, path)
        for path, state in states["ours"].items():
            torch.save(state, path)
        paths = [Path(path) for of_whom in states.values() for path in of_whom]
        states.clear()
        if companions:
            companions(folder / COMPANIONS)
            paths.append(folder / COMPANIONS)
        return manifest.seal(folder, names_of(paths, folder))
    except (OSError, RuntimeError) as error:  # PyTorch's writer has no OSError
        return f"rank {dist.get_rank()} on {socket.gethostname()} ({error})"


def of_all_ranks(sealed: Any, tag: str, group: Any) -> dict[str, Any]:
    """What every rank has sealed. RunStopped on all of them where one says in a string why it has not."""
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, sealed, group=group)
    if failed := [part for part in parts if isinstance(part, str)]:
        raise RunStopped(f"{tag} could not be saved by {failed[0]}{UNHARMED}")
    return {name: entry for part in parts for name, entry in part.items()}


@contextlib.contextmanager
def written_or_stopped(tag: str) -> Iterator[None]:
    """What keeps the block from writing (a full disk, a mount that is gone) ends the run with a sentence."""
    try:
        yield
    except RunStopped:
        raise
    except (OSError, RuntimeError) as error:
        place = f"rank {dist.get_rank()} on {socket.gethostname()}"
        raise RunStopped(f"{tag} could not be saved by {place} ({error}){UNHARMED}") from error


@contextlib.contextmanager
def held_back(engine: Any) -> Iterator[dict[str, Any]]:
    """What DeepSpeed would write on this rank while the block runs, by path."""
    states: dict[str, Any] = {}
    engine.checkpoint_engine.save = lambda state_dict, path: states.update({path: state_dict})
    try:
        yield states
    finally:
        del engine.checkpoint_engine.save


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
