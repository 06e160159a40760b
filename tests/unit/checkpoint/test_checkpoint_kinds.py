"""Checkpoints and exports, given for one another, are refused with the way from one to the other."""

from pathlib import Path

import pytest

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.kinds import refuse_checkpoint_as_model, refuse_export_as_checkpoint
from openrlhf_prefix.errors import UserError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    """Complete, or left without its manifest."""
    for names in ([manifest.NAME], ["zero_pp_rank_0_mp_rank_00_model_states.pt"]):
        with pytest.raises(UserError, match="resumable checkpoint.*openrlhf-prefix export.*--ckpt.load_enable"):
            refuse_checkpoint_as_model(str(make(tmp_path, *names)))


def test_an_export_is_no_checkpoint(tmp_path: Path) -> None:
    folder = make(tmp_path, "config.json", "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match=r"is an export.*--actor\.model_name_or_path"):
        refuse_export_as_checkpoint(folder)
    refuse_checkpoint_as_model(str(folder))


def test_a_folder_that_is_neither_passes_both(tmp_path: Path) -> None:
    refuse_export_as_checkpoint(make(tmp_path, "config.yaml"))
    refuse_checkpoint_as_model(str(tmp_path))
    refuse_checkpoint_as_model("Qwen/Qwen2.5-Math-7B")
