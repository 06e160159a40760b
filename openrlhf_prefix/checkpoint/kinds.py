"""A resumable checkpoint and an export are both folders full of weights; this tells one from the other."""

from pathlib import Path

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.errors import UserError


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is one checkpoint, complete or not."""
    return (path / manifest.NAME).is_file() or any(path.glob("*_model_states.pt"))


def is_export(path: Path) -> bool:
    """Whether `path` is a model folder in HF format."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors*"))


def refuse_checkpoint_as_model(name: str) -> None:
    """Raises UserError where `name`, given as a model, is a resumable checkpoint."""
    if is_checkpoint(Path(name)):
        raise UserError(
            f"{name} is a resumable checkpoint, not a model: openrlhf-prefix export {name} OUT makes one of it; to "
            "go on with its run, give that run's --run.dir and --ckpt.load_enable"
        )


def refuse_export_as_checkpoint(path: Path) -> None:
    """Raises UserError where `path`, given as a checkpoint or a folder of them, is an export."""
    if is_export(path):
        raise UserError(
            f"{path} is an export (HF format), not a resumable checkpoint: start a new run from it with "
            f"--actor.model_name_or_path {path}"
        )
