"""What a mask's score cannot be taken from is refused by `--dry_run`: one sentence, exit code 2."""

import json
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from test_teacher_flags import ROW, dry_run, model  # noqa: E402, F401

PLAIN = {"hybrid__preset": "rft"}
BARE = ROW | {"demonstrations": []}


def written(path: Path, row: dict) -> Path:
    path.write_text(json.dumps(row) + "\n")
    return path


def test_scores_of_gradients_need_demonstrations_and_magnitude_none(model, tmp_path, capsys):  # noqa: F811
    """`rft` itself reads none; those of the training set are enough, or a file's."""
    assert dry_run(model, tmp_path, BARE, **PLAIN, mask__method="magnitude") == 0, capsys.readouterr().err
    assert dry_run(model, tmp_path, ROW, **PLAIN, mask__method="gradient") == 0, capsys.readouterr().err
    assert dry_run(model, tmp_path, BARE, **PLAIN, mask__method="gradient") == 2
    said = capsys.readouterr().err
    assert "mask.method gradient scores weights by demonstrations" in said and "data.jsonl has none" in said
    file = written(tmp_path / "keep.jsonl", ROW)
    assert dry_run(model, tmp_path, BARE, **PLAIN, mask__method="fisher", mask__file=file) == 0
    assert dry_run(model, tmp_path, BARE, **PLAIN, mask__method="retain_freeze", mask__file=file) == 0
    written(file, BARE)
    assert dry_run(model, tmp_path, ROW, **PLAIN, mask__method="retain_freeze", mask__file=file) == 2
    assert "keep.jsonl has none" in capsys.readouterr().err


def test_the_examples_of_a_file_all_keep_their_demonstrations(model, tmp_path, capsys):  # noqa: F811
    """What few the problems of the run keep."""
    given = {**PLAIN, "prefix__demonstration_fraction": 0.0, "mask__method": "snip"}
    assert dry_run(model, tmp_path, ROW, **given) == 2, capsys.readouterr().err
    file = written(tmp_path / "keep.jsonl", ROW)
    assert dry_run(model, tmp_path, ROW, **given, mask__file=file) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mask__method": "retain_freeze"}, "in --mask.file"),
        ({"mask__method": "snip", "mask__update_steps": 128}, "a mask is chosen once"),
        ({"mask__method": "snip", "ds__lora__rank": 8}, "mask.method with ds.lora.rank"),
        ({"mask__method": "snip", "mask__file": "nowhere.jsonl"}, "mask.file: there is no"),
    ],
)
def test_masks_that_cannot_be_are_refused(model, tmp_path, capsys, given, words):  # noqa: F811
    assert dry_run(model, tmp_path, ROW, **PLAIN, **given) == 2
    assert words in capsys.readouterr().err
