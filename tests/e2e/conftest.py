"""The real stack (Ray, DeepSpeed, vLLM), started as a user starts it: through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

ROOT = Path(__file__).parents[2]
SECONDS = 420  # of one command; a hung run fails here with its output
PYTHON = [sys.executable, "-W", "ignore", "-m", "openrlhf_prefix.cli"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: minutes by itself; LONG=1 bash scripts/test.sh runs it too")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("LONG"):
            item.add_marker(pytest.mark.skip(reason="long: LONG=1 runs it"))


class Trained:
    """A finished command and its run folder."""

    def __init__(self, completed: subprocess.CompletedProcess, folder: Path) -> None:
        self.code, self.output, self.folder = completed.returncode, completed.stdout, folder

    def metrics(self) -> list[dict]:
        """Lines of training steps."""
        from openrlhf_prefix.report.run_folder import RunFolder

        return [row for row in RunFolder(self.folder).read("metrics") if "policy_loss" in row]

    def rollouts(self) -> list[dict]:
        from openrlhf_prefix.report.run_folder import RunFolder

        return RunFolder(self.folder).read("rollouts")


def command(*arguments: object) -> list[str]:
    return [*PYTHON, *map(str, arguments)]


def run(*arguments: object, env: dict | None = None) -> subprocess.CompletedProcess:
    """A verb of the command line, to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


def quickstart(folder: Path, *flags: object) -> list[object]:
    """The quickstart's command line with eight steps and half of the held-out problems."""
    return ["train", "--config", "configs/quickstart.yaml", "--run.dir", folder, "--data.max_samples", 128, *flags]


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded task and model, cached where the quickstart keeps them."""
    folder = ROOT / ".cache" / "quickstart"
    made = run("embed", folder)
    assert made.returncode == 0, made.stdout
    return folder


@pytest.fixture(scope="session")
def trained(embedded, tmp_path_factory) -> Trained:
    """Eight steps of prefix_rft, with a checkpoint after the fourth, evaluated before and after."""
    folder = tmp_path_factory.mktemp("run") / "prefix_rft"
    finished = Trained(run(*quickstart(folder, "--ckpt.save_steps", 4, "--run.rollout_groups", -1)), folder)
    assert finished.code == 0, finished.output
    return finished


TWO_STEPS = ["--config", "configs/quickstart.yaml", "--data.max_samples", 32, "--eval.dataset", ""]
TWO_STEPS += ["--model.rope_theta", 20000, "--run.rollout_groups", -1]


@pytest.fixture(scope="session")
def two_ranks(embedded, tmp_path_factory) -> Trained:
    """Two steps with two ranks and two engines on this node."""
    folder = tmp_path_factory.mktemp("run") / "two_ranks"
    layout = ["--actor.num_gpus_per_node", 2, "--vllm.num_engines", 2, "--run.dir", folder]
    finished = Trained(run("train", *TWO_STEPS, *layout), folder)
    assert finished.code == 0, finished.output
    return finished
