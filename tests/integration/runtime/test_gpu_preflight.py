"""What is wrong with the GPUs of a node: the look by a PyTorch that answers like one with GPUs, the lines by hand."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("deepspeed")

import torch

from openrlhf_prefix import machine, pins
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver import gpu_probe, gpus, nodes, this_machine
from openrlhf_prefix.runtime.driver.gpu_probe import Device, Found
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.settings.config import nested

CONFIGS = Path(__file__).parents[3] / "configs"
H100 = Device("NVIDIA H100", 9.0, 79.0, 79.6)
HEALTHY = Found(devices=[H100] * 8, driver="580.95.05", shared=64.0)


def problems(found: Found, counted: int = 8, idle: bool = True, need: float = 70.0) -> list[str]:
    return gpus.problems("10.0.0.2", counted, idle, found, need)


def test_a_healthy_node_has_no_problem() -> None:
    assert problems(HEALTHY) == []
    told = gpus.line("10.0.0.2", HEALTHY, 70.0)
    assert told == "10.0.0.2: 8 x NVIDIA H100, 80 GiB, 79 free, P2P, driver 580.95.05"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"failed": "ImportError: x"}, "10.0.0.2: its GPUs could not be looked at (ImportError: x): run bash"),
        (
            {"devices": [], "blind": "the NVIDIA driver is 550"},
            "PyTorch sees no GPU, and Ray counts 8: the NVIDIA driver",
        ),
        ({"devices": [H100] * 7}, "PyTorch sees 7 GPUs, and Ray counts 8"),
        ({"devices": [replace(H100, name="V100", compute=7.0)] * 8}, "V100 has no bf16: compute capability 8.0"),
        ({"shared": 64 / 1024}, "64 MiB of shared memory, NCCL needs 1024: start the container with --shm-size"),
        ({"broken": {"FusedAdamBuilder": "no nvcc"}}, "FusedAdam does not load (no nvcc): run bash scripts/setup.sh"),
        ({"broken": {"flash_attn": "undefined symbol"}}, "flash_attn does not load (undefined symbol): run bash"),
    ],
)
def test_each_problem_is_a_line_with_its_mend(changed: dict, line: str) -> None:
    (found,) = problems(replace(HEALTHY, **changed))
    assert line in found and found.startswith("10.0.0.2: ")


def test_memory_that_something_else_holds_is_named() -> None:
    """30 GiB are taken on one GPU. 49 suffice for a run of 40; another job of the same Ray is not looked at."""
    found = replace(HEALTHY, devices=[H100, replace(H100, free=49.0)])
    (line,) = problems(found, counted=2)
    assert "GPU 1 has 49 of 80 GiB free, the run takes up to 70 (openrlhf-prefix plan)" in line
    assert not problems(found, counted=2, need=40.0) and not problems(found, counted=2, idle=False)


def test_a_plan_above_the_gpu_is_a_warning_as_it_only_estimates() -> None:
    assert not problems(HEALTHY, need=90.0)
    assert "takes up to 90 GiB of each of them" in gpus.line("10.0.0.2", HEALTHY, 90.0)


def test_one_gpu_needs_no_shared_memory_and_no_peer() -> None:
    found = replace(HEALTHY, devices=[H100], shared=0.06, direct=True)
    assert not problems(found, counted=1) and "P2P" not in gpus.line("10.0.0.2", found, 1.0)


def test_what_a_run_takes_is_its_plan() -> None:
    """Qwen2.5-Math-7B on 8 GPUs; a model that no plan knows takes at least what its engines ask for."""
    from openrlhf_prefix.plan.architectures import load
    from openrlhf_prefix.plan.memory import GIB, make_plan
    from openrlhf_prefix.settings.resolve import resolve

    args = resolve(["--config", str(CONFIGS / "qwen2.5_math_7b/prefix_rft.yaml")], files=False).args
    plan = make_plan(args, load("Qwen/Qwen2.5-Math-7B"), 80 * GIB)
    assert gpus.needed(args, 80.0) == max(plan.total(phase) for phase in ("training", "step", "rollouts")) / GIB
    args.actor.model_name_or_path = "/no/such/folder"
    assert gpus.needed(args, 80.0) == args.vllm.gpu_memory_utilization * 80.0 == 64.0


@pytest.mark.parametrize(
    ("optim", "offload", "attention", "expected"),
    [
        ("adam", False, "flash_attention_2", ["FusedAdamBuilder", "flash_attn"]),
        ("adam", True, "sdpa", ["CPUAdamBuilder"]),
        ("muon", False, "sdpa", []),
        ("muon", False, "flash_attention_3", ["flash_attn_interface"]),
    ],
)
def test_what_the_run_will_load_is_loaded(optim: str, offload: bool, attention: str, expected: list[str]) -> None:
    flags = {"actor.optim": optim, "ds.adam_offload": offload, "ds.attn_implementation": attention}
    assert gpus.parts_of(nested(flags)) == expected


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H100 and another that does not read its memory."""
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_capability": lambda number: (9, 0),
        "get_device_name": lambda number: "H100",
        "mem_get_info": lambda number: ((70 - number) * 2**30, 80 * 2**30),
        "can_device_access_peer": lambda one, other: (one, other) == (0, 1),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(machine, "find_gpus", lambda: [machine.Gpu("H100", 9.0, 81920, "580.1")])


def test_a_look_at_gpus(two_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_kernel.py").write_text("raise OSError('libcudart.so.13: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    found = gpu_probe.look(["json", "broken_kernel", "NoSuchBuilder"])
    assert found.devices == [Device("H100", 9.0, 70.0, 80.0), Device("H100", 9.0, 69.0, 80.0)]
    assert not found.direct and found.driver == "580.1" and not found.blind
    assert (
        found.broken["broken_kernel"] == "libcudart.so.13: not found"
        and "NoSuchBuilder" in found.broken["NoSuchBuilder"]
    )
    assert set(found.broken) == {"broken_kernel", "NoSuchBuilder"}


def test_a_node_that_sees_no_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(machine, "find_gpus", lambda: [machine.Gpu("H100", 9.0, 81920, "550.54.15")])
    monkeypatch.setattr(machine, "driver_cuda", lambda: None)
    assert "the NVIDIA driver is 550.54.15" in gpu_probe.look([]).blind


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_look_is_a_process_of_its_own_whose_answer_is_read() -> None:
    found = gpus.ask(["json"])
    assert found.blind and not found.failed and not found.devices and found.shared > 0


def test_a_look_that_fails_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run
    for code, seconds, told in (
        ("raise OSError('no libcudart')", 60.0, "no libcudart"),
        ("import time; time.sleep(60)", 0.5, "0 s"),
    ):
        monkeypatch.setattr(gpus, "BUILD_SECONDS", seconds)
        monkeypatch.setattr(
            gpus.subprocess, "run", lambda command, code=code, **how: real([sys.executable, "-c", code], **how)
        )
        assert told in gpus.ask([]).failed


def test_the_gpus_are_those_that_ray_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows none to the probe, which asks for none."""
    seen = []
    done = SimpleNamespace(stdout='{"devices": []}\n')
    monkeypatch.setattr(gpus.subprocess, "run", lambda command, env, **how: seen.append(env.get(gpus.VISIBLE)) or done)
    monkeypatch.setenv(gpus.VISIBLE, "")
    for given in ({gpus.VISIBLE: "4,5"}, {}):
        parent = SimpleNamespace(parent=lambda given=given: SimpleNamespace(environ=lambda: given))
        monkeypatch.setattr(gpus.psutil, "Process", lambda parent=parent: parent)
        gpus.ask([])
    assert seen == ["4,5", None]


class Remote:
    def __init__(self, answer: Any) -> None:
        self.gpus = SimpleNamespace(remote=lambda parts: answer)


def test_every_node_with_gpus_is_asked_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three nodes the head has none; one of the others sees none."""
    there = [
        {"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 8.0}},
        {"NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Resources": {"GPU": 8.0}},
        {"NodeID": "c", "NodeManagerAddress": "10.0.0.3", "Resources": {"GPU": 8.0}},
    ]
    answers = {"a": None, "b": HEALTHY, "c": Found(blind="the driver is old")}
    probes = {key: Remote(answer) for key, answer in answers.items()}
    monkeypatch.setattr(nodes, "_ask", lambda nodes, refs, seconds: refs)
    monkeypatch.setattr(nodes, "available_resources_per_node", lambda: {"b": {"GPU": 8.0}, "c": {"GPU": 8.0}})
    monkeypatch.setattr(gpus, "parts_of", lambda args: [])
    monkeypatch.setattr(gpus, "needed", lambda args, total: 0.7 * total)
    monkeypatch.setenv(adapter.VARIABLE, "cuda")
    told, wrong = nodes._look_at_gpus(SimpleNamespace(), there, probes)
    assert [line.split(":")[0] for line in told] == ["10.0.0.2"]
    assert wrong == ["10.0.0.3: PyTorch sees no GPU, and Ray counts 8: the driver is old"]
    monkeypatch.setenv(adapter.VARIABLE, "cpu")
    assert nodes._look_at_gpus(SimpleNamespace(), there, probes) == ([], [])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """This machine, for a dry run: 8 healthy GPUs and the whole GPU stack, to be changed by a test."""
    it = SimpleNamespace(found=HEALTHY, installed={"vllm", "flash-attn"}, asked=[])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(it.found.devices))
    monkeypatch.setattr(pins, "missing", lambda *names: [name for name in names if name not in it.installed])
    monkeypatch.setattr(gpus, "ask", lambda parts, given: it.asked.append(parts) or it.found)
    for name in (adapter.VARIABLE, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return it


def recipe(name: str = "qwen2.5_math_7b/prefix_rft.yaml", *more: str) -> SimpleNamespace:
    from openrlhf_prefix.settings.resolve import resolve

    return resolve(["--config", str(CONFIGS / name), *more], files=False).args


def test_a_dry_run_shows_the_gpus_of_its_machine(here: SimpleNamespace) -> None:
    told = "this machine: 8 x NVIDIA H100, 80 GiB, 79 free, P2P, driver 580.95.05"
    assert this_machine.look(recipe()) == [told] and here.asked == [["FusedAdamBuilder", "flash_attn"]]
    shown, warning = this_machine.look(recipe("qwen2.5_32b/split.yaml"))
    assert shown == told and "the placement asks for 48 GPUs, this machine has 8: the others" in warning


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"broken": {"FusedAdamBuilder": "no nvcc"}}, "this machine: FusedAdam does not load (no nvcc)"),
        ({"devices": [replace(H100, free=20.0)] * 8}, "GPU 0 has 20 of 80 GiB free"),
    ],
)
def test_a_dry_run_refuses_gpus_that_train_would_refuse(here: SimpleNamespace, changed: dict, said: str) -> None:
    here.found = replace(HEALTHY, **changed)
    with pytest.raises(UserError, match="^this machine cannot run it\n") as refused:
        this_machine.look(recipe())
    assert said in str(refused.value)


def test_a_dry_run_refuses_what_is_not_installed_and_changes_no_flag(here: SimpleNamespace) -> None:
    here.installed = {"vllm"}
    with pytest.raises(UserError, match="packs rows into one sequence, which needs flash-attn"):
        this_machine.look(recipe())
    args = recipe(
        "qwen2.5_math_7b/prefix_rft.yaml", "--train.dynamic_batch_enable", "false", "--ds.packing_samples", "false"
    )
    assert this_machine.look(args) and here.asked == [["FusedAdamBuilder"]]
    assert args.ds.attn_implementation == "flash_attention_2"


def test_a_dry_run_on_a_login_node_warns_and_by_hand_refuses(here: SimpleNamespace, monkeypatch) -> None:
    here.found = replace(HEALTHY, devices=[])
    monkeypatch.setattr(machine, "find_gpus", lambda: [machine.Gpu("H100", 9.0, 81920, "550.54.15")])
    monkeypatch.setattr(machine, "driver_cuda", lambda: None)
    (warning,) = this_machine.look(recipe())
    assert warning.startswith("warning: `train` would not start on this machine") and "550.54.15" in warning
    monkeypatch.setenv(adapter.VARIABLE, "cuda")
    with pytest.raises(UserError, match="sees no GPU here: the NVIDIA driver is 550.54.15"):
        this_machine.look(recipe())


@pytest.mark.parametrize(
    ("variable", "value"), [(adapter.VARIABLE, "cpu"), ("RAY_ADDRESS", "10.0.0.1:6379"), (None, None)]
)
def test_a_dry_run_for_other_machines_looks_at_none(here: SimpleNamespace, monkeypatch, variable, value) -> None:
    """On the CPU by hand, for a cluster, with a PyTorch for CPUs."""
    monkeypatch.setenv(variable, value) if variable else monkeypatch.setattr(torch.version, "cuda", None)
    assert this_machine.look(recipe()) == [] and not here.asked
