"""--model.rope_theta and --model.max_position_embeddings: what the model computes, and what its export says."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from openrlhf_prefix.data.chains import INSTRUCTION
from openrlhf_prefix.data.tiny_model import WarmUp, make_untrained_model
from openrlhf_prefix.data.tiny_tokenizer import make_tokenizer
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver.model_folder import changed, prepare_model
from openrlhf_prefix.settings.config import nested
from openrlhf_prefix.settings.model import check_remote_code, load_tokenizer

TOKENS = torch.arange(3, 23).repeat(2).unsqueeze(0)


def flags(model: Path, run_dir: Path, **given: object):
    flat = {
        "actor.model_name_or_path": str(model),
        "reward.model_name_or_path": None,
        "run.dir": str(run_dir),
        "model.rope_theta": None,
        "model.max_position_embeddings": None,
        "model.trust_remote_code": False,
        "data.max_len": 512,
        "data.apply_chat_template": True,
        "data.disable_fast_tokenizer": False,
    }
    return nested(flat | {name.replace("__", "."): value for name, value in given.items()})


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The embedded model without its warm-up: rope_theta 10000, 512 positions."""
    folder = tmp_path_factory.mktemp("source")
    tokenizer = make_tokenizer(INSTRUCTION)
    make_untrained_model(tokenizer, WarmUp()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(folder: str | Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(TOKENS).logits


def test_the_twin_computes_with_the_new_base_and_its_export_has_it(source, tmp_path):
    """Position 0 is not rotated, so its logits stay; later ones turn by other angles. Weights are the same files."""
    args = flags(source, tmp_path / "run", model__rope_theta=40000.0, model__max_position_embeddings=1024)
    prepare_model(args)
    twin = Path(args.actor.model_name_or_path)
    assert twin == tmp_path / "run" / "model" and (twin / "model.safetensors").resolve().parent == source.resolve()

    before, after = logits(source), logits(twin)
    assert torch.allclose(before[:, 0], after[:, 0], atol=1e-6)
    assert (before[:, -1] - after[:, -1]).abs().max() > 1e-3

    AutoModelForCausalLM.from_pretrained(twin).save_pretrained(tmp_path / "export")
    exported = AutoConfig.from_pretrained(tmp_path / "export")
    assert exported.rope_parameters["rope_theta"] == 40000.0 and exported.max_position_embeddings == 1024
    assert torch.equal(logits(tmp_path / "export"), after)
    assert AutoConfig.from_pretrained(source).rope_parameters["rope_theta"] == 10000.0, "the source is left alone"


def test_a_resumed_run_makes_the_same_twin_again(source, tmp_path):
    for _ in range(2):
        args = flags(source, tmp_path / "run", model__rope_theta=40000.0)
        prepare_model(args)
    content = json.loads((tmp_path / "run/model/config.json").read_text())
    assert content["rope_parameters"]["rope_theta"] == 40000.0 and content["max_position_embeddings"] == 512


def test_without_the_flags_the_model_is_left_where_it_is(source, tmp_path):
    args = flags(source, tmp_path / "run")
    prepare_model(args)
    assert args.actor.model_name_or_path == str(source) and not (tmp_path / "run").exists()


def test_what_transformers_4_wrote_is_changed_where_it_stands():
    """As Qwen2.5-Math is published."""
    published = {"model_type": "qwen2", "rope_theta": 10000, "max_position_embeddings": 4096}
    wanted = {"rope_theta": 40000.0, "max_position_embeddings": 16384}
    assert changed(published, wanted) == published | wanted
    assert AutoConfig.for_model(**changed(published, wanted)).rope_parameters["rope_theta"] == 40000.0
    scaled = {"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}}
    assert changed(scaled, {"rope_theta": 1e6})["rope_parameters"] == {**scaled["rope_parameters"], "rope_theta": 1e6}


@pytest.mark.parametrize(
    "content", [{"model_type": "gpt2"}, {"model_type": "gemma3_text", "rope_parameters": {"full_attention": {}}}]
)
def test_a_model_without_one_base_is_refused(content):
    with pytest.raises(UserError, match=f"a {content['model_type']} model has no single rope_theta"):
        changed(content, {"rope_theta": 1.0})


def test_the_context_check_reads_the_positions_the_run_will_have(source, tmp_path):
    with pytest.raises(UserError, match="data.max_len 513 is more than the 512 positions .*max_position_embeddings"):
        load_tokenizer(flags(source, tmp_path, data__max_len=513))
    load_tokenizer(flags(source, tmp_path, data__max_len=513, model__max_position_embeddings=1024))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_not_run_unasked(source, tmp_path, file):
    for entry in source.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    content = json.loads((source / file).read_text())
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps({**content, "auto_map": {"AutoConfig": "own.Config"}}))
    with pytest.raises(UserError, match="brings Python code of its own .* --model.trust_remote_code"):
        check_remote_code(flags(tmp_path, tmp_path))
    check_remote_code(flags(tmp_path, tmp_path, model__trust_remote_code=True))
    with pytest.raises(UserError, match="brings Python code of its own"):
        check_remote_code(flags(source, tmp_path, reward__model_name_or_path=f"{source},{tmp_path}"))
    check_remote_code(flags(source, tmp_path))
