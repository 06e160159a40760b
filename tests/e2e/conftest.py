"""The real stack (Ray, DeepSpeed, vLLM), started as a user starts it: through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

pytest.importorskip("openrlhf")

ROOT = Path(__file__).parents[2]
SECONDS = 900  # of one command, also on a busy machine; a hung run fails here with its output
PYTHON = [sys.executable, "-W", "ignore", "-m", "openrlhf_prefix.cli"]


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


# Off by default: the correction, which records the engine's log-probs; entropy bonus; gradient of the prefix tokens.
MEASURED = ("--algo.advantage.is_correction_level", "token", "--actor.entropy_coef", 0.001)
MEASURED += ("--prefix.gradient_every", 2, "--run.rollout_groups", -1)


def quickstart(folder: Path, *flags: object) -> list[object]:
    """The quickstart's command line with eight steps and half of the held-out problems."""
    return ["train", "--config", "configs/quickstart.yaml", "--run.dir", folder, "--data.max_samples", 128, *flags]


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded task and model, cached where the quickstart keeps them."""
    folder = ROOT / ".cache" / "quickstart"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # of two test processes one makes it
        made = run("embed", folder)
    assert made.returncode == 0, made.stdout
    return folder


@pytest.fixture(scope="session")
def trained(embedded, tmp_path_factory) -> Trained:
    """Eight steps of prefix_rft, with everything measured and two checkpoints, evaluated before and after."""
    folder = tmp_path_factory.mktemp("run") / "prefix_rft"
    finished = Trained(run(*quickstart(folder, "--ckpt.save_steps", 4, *MEASURED)), folder)
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
