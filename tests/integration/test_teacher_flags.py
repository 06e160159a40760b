"""A teacher that cannot judge what the policy writes is refused by `--dry_run`: one sentence, exit code 2."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from command_line import flags_of_a_run  # noqa: E402
from transformers import AutoConfig, AutoTokenizer  # noqa: E402

from openrlhf_prefix import cli  # noqa: E402
from openrlhf_prefix.data.chains import INSTRUCTION  # noqa: E402
from openrlhf_prefix.data.tiny_model import WarmUp, make_untrained_model  # noqa: E402
from openrlhf_prefix.data.tiny_tokenizer import make_tokenizer  # noqa: E402

ROW = {"prompt": "1+2", "answer": "3", "demonstrations": ["1+2=3\n\\boxed{3}"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The embedded model without its warm-up, of 512 positions."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = make_tokenizer(INSTRUCTION)
    make_untrained_model(tokenizer, WarmUp()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def teacher(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "teacher"))


def dry_run(model: Path, tmp_path: Path, row: dict = ROW, **given: object) -> int:
    """Its exit code."""
    data = tmp_path / "data.jsonl"
    data.write_text(f"{json.dumps(row)}\n" * 4)
    flags = {
        "hybrid.preset": "opd",
        **flags_of_a_run(model, data, tmp_path / "run"),
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    try:
        cli.main(["train", "--dry_run", *(f"--{name}={value}" for name, value in flags.items())])
    except SystemExit as ended:
        return ended.code
    return 0


def test_a_teacher_of_the_same_family_passes_and_so_does_one_that_knows_more(model, teacher, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(teacher)
    config = AutoConfig.from_pretrained(teacher)
    config.vocab_size += 1
    config.save_pretrained(teacher)
    for name in (model, teacher):
        assert dry_run(model, tmp_path, teacher__model=name) == 0, capsys.readouterr().err


def test_another_vocabulary_is_refused_with_a_token_of_it(model, teacher, tmp_path, capsys):
    """The policy has a token that the teacher does not know."""
    policy = Path(shutil.copytree(model, tmp_path / "policy"))
    tokenizer = AutoTokenizer.from_pretrained(policy)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(policy)
    assert dry_run(policy, tmp_path, teacher__model=teacher) == 2
    said = capsys.readouterr().err
    assert "has another vocabulary than" in said and "1 tokens have another id there or none, '<more>'" in said


def test_fewer_embeddings_than_the_policys_are_refused(model, teacher, tmp_path, capsys):
    config = AutoConfig.from_pretrained(teacher)
    config.vocab_size -= 1
    config.save_pretrained(teacher)
    assert dry_run(model, tmp_path, teacher__model=teacher) == 2
    assert "embeddings, fewer than the" in capsys.readouterr().err


def test_a_folder_that_is_no_model_and_one_without_weights_are_refused(model, teacher, tmp_path, capsys):
    (teacher / "model.safetensors").unlink()
    assert dry_run(model, tmp_path, teacher__model=teacher) == 2 and "has no weights" in capsys.readouterr().err
    (teacher / "config.json").unlink()
    assert dry_run(model, tmp_path, teacher__model=teacher) == 2
    assert "is no model with a tokenizer" in capsys.readouterr().err


def test_code_that_a_teacher_brings_is_not_run_unasked(model, teacher, tmp_path, capsys):
    content = json.loads((teacher / "config.json").read_text()) | {"auto_map": {"AutoConfig": "x.Y"}}
    (teacher / "config.json").write_text(json.dumps(content))
    assert dry_run(model, tmp_path, teacher__model=teacher) == 2
    assert "brings Python code of its own" in capsys.readouterr().err


def test_a_teacher_that_is_to_see_demonstrations_needs_some_and_room_for_them(model, teacher, tmp_path, capsys):
    assert dry_run(model, tmp_path, hybrid__preset="opsd") == 0, capsys.readouterr().err
    assert dry_run(model, tmp_path, ROW | {"demonstrations": []}, hybrid__preset="opsd") == 2
    assert "has no demonstration in any row, and the teacher of preset opsd is to see them" in capsys.readouterr().err
    config = AutoConfig.from_pretrained(teacher)
    config.max_position_embeddings = 100  # enough for data.max_len
    config.save_pretrained(teacher)
    assert dry_run(model, tmp_path, teacher__model=teacher) == 0, capsys.readouterr().err
    shown = {"teacher__context": "demonstration", "teacher__template": "{prompt}" + "1+" * 30 + "{demonstration}"}
    assert dry_run(model, tmp_path, teacher__model=teacher, **shown) == 2
    assert "is more than the 100 positions of the teacher" in capsys.readouterr().err
