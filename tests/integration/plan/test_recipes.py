"""Every shipped config: its flags exist and hold together, without a hub; what the recipes promise is in them."""

import socket
from pathlib import Path

import pytest

from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import config
from openrlhf_prefix.settings.resolve import resolve

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
PARTS = sorted((CONFIGS / "base").glob("*.yaml"))
# See test_compare_commands.py.
COMPARISONS = [path for path in CONFIGS.rglob("*.yaml") if "\ntasks:" in path.read_text(encoding="utf-8")]
RECIPES = sorted(path for path in CONFIGS.rglob("*.yaml") if path not in PARTS + COMPARISONS)
SMALL = "smollm2"  # on a CPU, from tasks of reasoning-gym
MODELS = sorted(path.parent.name for path in CONFIGS.glob("*/prefix_rft.yaml") if path.parent.name != SMALL)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No connection can be made, and nothing is read that the checkout does not hold."""

    def refuse(self, address):
        raise AssertionError(f"a dry run reached for {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1", "answer": "2"}\n', encoding="utf-8")
    made = [
        f".cache/{of}/{name}"
        for of in ("quickstart", SMALL)
        for name in ("model", "task/train.jsonl", "task/heldout.jsonl")
    ]
    for name in (*made, f"configs/{SMALL}/reward.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def resolved(path: Path, *flags: str):
    return resolve(["--config", str(path), "--data.prompt_dataset", "train.jsonl", *flags])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_config_passes_all_checks(path):
    args = resolved(path).args
    assert args.hybrid.preset == (path.stem if path.stem in PRESETS else "prefix_rft")
    assert args.data.max_len > args.rollout.max_new_tokens


def test_the_six_models_are_there_with_both_overlays():
    assert (
        sorted(
            ["qwen2.5_math_1.5b", "qwen2.5_math_7b", "llama3.1_8b", "qwen3_1.7b_base", "qwen3_8b_base", "qwen2.5_32b"]
        )
        == MODELS
    )
    for model in MODELS:
        prefix_rft, rft = (config.read_yaml(CONFIGS / model / f"{name}.yaml") for name in ("prefix_rft", "rft"))
        assert rft == {**prefix_rft, "hybrid.preset": "rft"}


def test_every_shared_part_is_in_use():
    lines = [line for path in CONFIGS.rglob("*.yaml") for line in path.read_text(encoding="utf-8").splitlines()]
    for part in PARTS:
        assert any(line.startswith("base: ") and line.endswith(part.name) for line in lines), part


@pytest.mark.parametrize("model", MODELS)
def test_a_recipe_trains_with_the_numbers_of_the_paper(model):
    """128 problems x 8 rows a step, in mini-batches of 64 problems; 500 steps: 2 x (32000 / 128)."""
    args = resolved(CONFIGS / model / "prefix_rft.yaml").args
    assert (args.actor.adam.lr, args.rollout.batch_size, args.train.batch_size) == (1e-6, 128, 64 * 8)
    assert (args.rollout.n_samples_per_prompt, args.prefix.prefixed_per_group, args.prefix.keep) == (8, 1, 0.2)
    assert (args.rollout.max_new_tokens, args.rollout.temperature, args.eval.temperature) == (8192, 1.0, 0.6)
    assert (args.prefix.low_start, args.prefix.low_end, args.prefix.high) == (0.95, 0.05, 0.95)
    assert args.train.num_episodes * (args.data.max_samples // args.rollout.batch_size) == 500
    assert args.actor.lr_scheduler == "constant" and args.algo.kl.init_coef == 0


@pytest.mark.parametrize("model", MODELS)
def test_one_line_takes_a_recipe_to_eight_nodes(model):
    """The engines follow: 64 GPUs, in engines of the recipe's tensor-parallel size."""
    args = resolved(CONFIGS / model / "prefix_rft.yaml", "--actor.num_nodes", "8").args
    assert args.vllm.num_engines * args.vllm.tensor_parallel_size == 64


def test_one_line_takes_the_quickstart_to_four_nodes():
    """Of its 128 rows a step each of four ranks has one micro-batch of 32."""
    args = resolved(CONFIGS / "quickstart.yaml", "--actor.num_nodes", "4").args
    assert args.vllm.num_engines == 4


def test_engines_that_do_not_fill_the_colocated_gpus_are_refused():
    with pytest.raises(UserError, match="3 engines of 1 GPUs do not fill the 8 GPUs of the actor"):
        resolved(CONFIGS / "qwen3_8b_base/rft.yaml", "--vllm.num_engines", "3")
    with pytest.raises(UserError, match="2 engines of 3 GPUs do not fill the 8 GPUs"):
        resolved(CONFIGS / "qwen3_8b_base/rft.yaml", "--vllm.tensor_parallel_size", "3")


def test_a_run_is_named_after_model_and_method():
    folder = Path(resolved(CONFIGS / "qwen3_8b_base/rft.yaml").args.run.dir)
    assert folder.name.startswith("qwen3_8b_base-rft-2")


def test_the_math_models_get_their_context_and_nothing_else_does():
    extended = {model for model in MODELS if resolved(CONFIGS / model / "rft.yaml").args.model.rope_theta}
    assert extended == {"qwen2.5_math_1.5b", "qwen2.5_math_7b"}
    args = resolved(CONFIGS / "qwen2.5_math_7b/rft.yaml").args
    assert (args.model.rope_theta, args.model.max_position_embeddings) == (40000.0, 16384)


def test_a_key_that_is_to_come_from_the_environment_must_be_there(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match="WANDB_API_KEY is not set; export it"):
        resolved(CONFIGS / "quickstart.yaml", "--logger.wandb.key", "env")
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    taken = resolved(CONFIGS / "quickstart.yaml", "--logger.wandb.key", "env")
    assert "hunter2" not in config.dump(taken.flat) and "hunter2" not in str(taken.args)
