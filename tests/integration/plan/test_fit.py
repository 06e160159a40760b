"""What `plan --fit` proposes fits by the plan itself, and nothing that costs less does."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

from openrlhf_prefix import cli

CONFIGS = Path(__file__).parents[3] / "configs"


def proposed(capsys, *command: str) -> dict:
    cli.main(["plan", "--fit", *command])
    return yaml.safe_load(capsys.readouterr().out)


def recipe(name: str) -> list[str]:
    return ["--config", str(CONFIGS / name)]


def fits(*command: str) -> bool:
    try:
        cli.main(["plan", *command])
    except SystemExit as ended:
        return ended.code == 0
    return True


def as_flags(values: dict) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name}", str(value).lower())]


@pytest.mark.parametrize(
    ("name", "cluster", "offload", "width"),
    [
        ("qwen2.5_math_7b/rft.yaml", "--nodes 1 --gpus-per-node 8", False, 1),  # as the recipe has it
        ("qwen2.5_32b/rft.yaml", "--nodes 4 --gpus-per-node 8", False, 4),  # as the recipe has it
        ("qwen2.5_32b/rft.yaml", "--nodes 1 --gpus-per-node 8", True, 8),
        ("qwen2.5_math_1.5b/rft.yaml", "--nodes 1 --gpus-per-node 1 --gpu-memory 24", True, 1),
    ],
)
def test_what_it_proposes_fits(name: str, cluster: str, offload: bool, width: int, capsys) -> None:
    command = [*recipe(name), *cluster.split()]
    found = proposed(capsys, *command)
    assert found["ds.adam_offload"] is offload and found["vllm.tensor_parallel_size"] == width
    assert found["vllm.num_engines"] * width == found["actor.num_nodes"] * found["actor.num_gpus_per_node"]
    assert fits(*command, *as_flags(found))
    if offload:  # whatever else it changes
        without = found | {"ds.adam_offload": False, "vllm.gpu_memory_utilization": 0.3}
        assert not fits(*command, *as_flags(without))


def test_larger_gpus_are_asked_for_where_nothing_fits(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["plan", "--fit", *recipe("qwen2.5_32b/rft.yaml"), "--nodes", "1", "--gpus-per-node", "1"])
    assert ended.value.code == 1 and "no flags make it fit into 1 nodes of 1 GPUs" in capsys.readouterr().out
