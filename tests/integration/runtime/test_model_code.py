"""A model that brings code of its own: refused unasked; by the flag it is trained, saved, resumed, exported."""

import json
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from policy_ranks import make_policy, make_source, run_ranks, train
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver import resume
from openrlhf_prefix.runtime.learner import export_command
from openrlhf_prefix.settings.config import nested
from openrlhf_prefix.settings.model import load_tokenizer

CONTROLLER = {"global_step": 1, "parts": {}}
CODE = {
    "configuration_own.py": """
from transformers import Qwen2Config


class OwnConfig(Qwen2Config):
    model_type = "own"
""",
    "modeling_own.py": """
from transformers import Qwen2ForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(Qwen2ForCausalLM):
    config_class = OwnConfig
""",
}
CODE_OF = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


def make_own(folder: Path) -> Path:
    """A model of a type that transformers does not know."""
    make_source(folder, tied=False)
    for name, text in CODE.items():
        (folder / name).write_text(text)
    content = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": CODE_OF}
    (folder / "config.json").write_text(json.dumps({**content, **own}))
    return folder


def flags(model: Path, trusted: bool):
    flat = {"actor.model_name_or_path": str(model), "model.trust_remote_code": trusted}
    flat |= {"reward.model_name_or_path": None, "model.max_position_embeddings": None, "data.max_len": 64}
    return nested(flat | {"data.disable_fast_tokenizer": False, "data.apply_chat_template": True})


def train_and_save(folder: Path) -> None:
    given = {"ds.zero_stage": 3, "model.trust_remote_code": True}
    policy = make_policy(folder / "source", folder / "run", **given)
    assert type(policy.actor.model.module).__name__ == "OwnForCausalLM"
    train(policy, seed=1)
    policy.save_checkpoint("global_step1", CONTROLLER)
    policy.saves(wait=True)
    policy.save_model()
    before = policy.weight_fingerprints()
    policy.actor.model.destroy()
    again = make_policy(folder / "source", folder / "run", "global_step1", **given)
    assert again.weight_fingerprints() == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    make_own(folder / "source")
    run_ranks(1, train_and_save, folder)
    return folder


def test_the_driver_reads_tokenizer_and_config_by_the_models_code_where_the_flag_says_so(folder):
    with pytest.raises(UserError, match="brings Python code of its own .* --model.trust_remote_code"):
        load_tokenizer(flags(folder / "source", trusted=False))
    assert load_tokenizer(flags(folder / "source", trusted=True)).eos_token_id is not None


def test_a_checkpoint_knows_the_models_weights_and_its_code(folder, tmp_path):
    make_own(tmp_path / "other")
    known = resume.model_hash(flags(folder / "source", trusted=True))
    assert known == resume.model_hash(flags(tmp_path / "other", trusted=True))
    with (tmp_path / "other" / "modeling_own.py").open("a") as file:
        file.write("# changed\n")
    assert known != resume.model_hash(flags(tmp_path / "other", trusted=True))


def test_its_export_brings_the_code_and_loads(folder):
    config = AutoConfig.from_pretrained(folder / "run" / "export", trust_remote_code=True)
    assert config.model_type == "own" and config.auto_map == CODE_OF
    model, report = AutoModelForCausalLM.from_pretrained(
        folder / "run" / "export", trust_remote_code=True, output_loading_info=True
    )
    assert type(model).__name__ == "OwnForCausalLM"
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert {path.name for path in (folder / "run" / "export").glob("*.py")} == set(CODE)
    trained = load_file(folder / "run" / "export" / "model.safetensors")
    assert set(trained) == set(load_file(folder / "source" / "model.safetensors"))


def test_an_export_of_a_checkpoint_runs_its_code_only_on_request(folder, tmp_path):
    """Whatever flags the checkpoint was saved with: it may be somebody else's."""
    with pytest.raises(UserError, match="global_step1/hf brings Python code .* --trust_remote_code to the other"):
        export_command.main([str(folder / "run"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    export_command.main([str(folder / "run"), str(tmp_path / "out"), "--trust_remote_code"])
    ours, theirs = (
        {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
        for place in (tmp_path / "out", folder / "run" / "export")
    )
    assert ours.pop("README.md") and ours == theirs  # the run's card is written by its driver
