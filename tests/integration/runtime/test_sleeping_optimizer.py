"""A checkpoint that was saved asleep (ds.enable_sleep), by the functions that DeepSpeed sleeps and wakes with."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from deepspeed.runtime.zero.offload_states import offload_adam_states, reload_adam_states

from openrlhf_prefix.runtime.learner import checkpoints

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}


def adam() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    parameter = torch.nn.Parameter(torch.ones(4))
    return parameter, torch.optim.Adam([parameter], lr=0.1)


def step(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    parameter.grad = torch.arange(4.0)
    optimizer.step()


def test_a_resume_keeps_the_moments_alone_and_sleeps_on(tmp_path: Path) -> None:
    parameter, optimizer = adam()
    step(parameter, optimizer)
    offload_adam_states(optimizer, "cpu")
    saved = optimizer.state_dict()
    assert len(saved["state"][0]) == len(MOMENTS) + 2  # the fault: two buffers are saved too
    after, resumed = adam()

    def load(engine: Any, folder: str, tag: str) -> tuple[str, dict]:
        engine.optimizer.optimizer.load_state_dict(saved)
        return f"{folder}/{tag}", {}

    engine = SimpleNamespace(optimizer=SimpleNamespace(optimizer=resumed))
    assert checkpoints.loader(load, tmp_path / "global_step1")(engine, "run") == ("run/global_step1", {})
    assert set(resumed.state[after]) == MOMENTS
    offload_adam_states(resumed, "cpu")
    reload_adam_states(resumed, "cpu")
    reload_adam_states(optimizer, "cpu")
    for one, other in ((parameter, optimizer), (after, resumed)):
        one.data = torch.ones(4)
        step(one, other)
    assert torch.equal(parameter, after) and torch.equal(
        optimizer.state[parameter]["exp_avg"], resumed.state[after]["exp_avg"]
    )


def test_the_driver_leaves_deepspeed_alone_until_the_platform_is_chosen() -> None:
    """DeepSpeed looks for an accelerator when it is imported, and says so."""
    code = "import sys, openrlhf_prefix.runtime.driver.launch; print('deepspeed' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
