"""A model with another context length: its folder once more, as links, beside a config.json of its own.

    --model.rope_theta 40000 --model.max_position_embeddings 16384      for Qwen2.5-Math, whose own are 10000 and 4096

The folder is `model` in the run folder and takes the model's place before anything reads it, so that trainer,
reference, engines and export have the same config without being told. No weight is copied or changed.
"""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openrlhf_prefix.errors import UserError

CONFIG = "config.json"


def overrides(args: SimpleNamespace) -> dict[str, Any]:
    """What the flags change in the model's config."""
    wanted = {name: getattr(args.model, name) for name in ("rope_theta", "max_position_embeddings")}
    return {name: value for name, value in wanted.items() if value is not None}


def prepare_model(args: SimpleNamespace) -> None:
    """Where the flags change the model's config, makes that folder and points actor.model_name_or_path at it."""
    if changes := overrides(args):
        folder = Path(args.run.dir) / "model"
        link_model(local_folder(args.actor.model_name_or_path), folder, changes)
        args.actor.model_name_or_path = str(folder)


def local_folder(name: str) -> Path:
    """The folder of a model; a hub name is downloaded into the hub's cache, or found there. Raises UserError."""
    if Path(name).is_dir():
        return Path(name).absolute()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except (OSError, ValueError) as error:
        raise UserError(f"{name} could not be downloaded: {str(error).splitlines()[0]}") from None


def link_model(source: Path, folder: Path, changes: dict[str, Any]) -> None:
    """Makes `folder` a twin of `source` with `changes` in its config; an older twin is replaced."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != CONFIG:
            (fresh / entry.name).symlink_to(entry.absolute())
    content = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    (fresh / CONFIG).write_text(json.dumps(changed(content, changes), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A model config with `changes`. Raises UserError for one that has no such thing.

    rope_theta stands at the top level in what transformers 4 wrote, and in rope_parameters since transformers 5, which
    reads both and lets the latter win.
    """
    content = dict(content)
    if "max_position_embeddings" in changes:
        content["max_position_embeddings"] = changes["max_position_embeddings"]
    if "rope_theta" in changes:
        rope = content.get("rope_parameters")
        if rope is None and "rope_theta" in content:
            content["rope_theta"] = changes["rope_theta"]
        elif rope is not None and "rope_theta" in rope:
            content["rope_parameters"] = {**rope, "rope_theta": changes["rope_theta"]}
        else:
            raise UserError(
                f"--model.rope_theta: a {content.get('model_type')} model has no single rope_theta in its {CONFIG}; "
                "leave the flag out"
            )
    return content
