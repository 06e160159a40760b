"""An engine that is made anew waits for the memory that it will ask for; GPUs by a stand-in for nvidia-smi."""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm")

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from openrlhf_prefix.runtime.engine import memory, rollout
from openrlhf_prefix.runtime.platform import adapter

HERE = Path(__file__).parent
SMI = """#!/bin/sh
echo "$@" >>{folder}/asked
cat {folder}/gpus
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What nvidia-smi prints, in a file that a test may write anew."""
    (tmp_path / "nvidia-smi").write_text(SMI.format(folder=tmp_path), encoding="ascii")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "gpus"


def test_the_fullest_gpu_counts(gpus: Path) -> None:
    gpus.write_text("60000, 80000\n20000, 80000\n")
    assert memory.free_share([2, 5]) == 0.25
    assert (gpus.parent / "asked").read_text().startswith("-i 2,5 --query-gpu=memory.free,memory.total ")


def test_where_nothing_tells_there_is_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.free_share([0]) == 1.0


def test_it_waits_until_the_trainer_sleeps(gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.6 is asked for. Awake the trainer leaves 20 of 80 GB; then it sleeps, which leaves 76."""
    gpus.write_text("20000, 80000\n")
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        gpus.write_text("20000, 80000\n" if len(waits) < 3 else "76000, 80000\n")

    # not in the module `time`: subprocess sleeps too
    monkeypatch.setattr(memory, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    monkeypatch.setattr(memory.ray, "get_gpu_ids", lambda: [3])
    memory.wait_for(0.6, None)
    assert len(waits) == 3 and "-i 3 " in (gpus.parent / "asked").read_text()
    memory.wait_for(0.6, None)
    assert len(waits) == 3


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(memory, "share_of", lambda bundles: 0.1)
    monkeypatch.setattr(memory.deadlines, "phase_seconds", lambda: 60.0)
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(memory.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    memory.wait_for(0.6, None)
    assert clock[0] == 60.0


@pytest.mark.parametrize(("platform", "again", "waits"), [("cuda", True, 1), ("cuda", False, 0), ("cpu", True, 0)])
def test_a_successor_waits_before_vllm_starts(monkeypatch: pytest.MonkeyPatch, platform, again, waits) -> None:
    events = []

    async def start(self: object, *args: object, **kwargs: object) -> None:
        events.append("vLLM")

    monkeypatch.setattr(rollout.PrefixRollout.__bases__[0], "__init__", start)
    monkeypatch.setattr(rollout.os, "setpgid", lambda *group: None)
    monkeypatch.setattr(rollout, "get_tokenizer", lambda *args: None)
    monkeypatch.setattr(rollout, "watch_children", lambda: None)
    monkeypatch.setattr(memory, "wait_for", lambda share, bundles: events.append((share, bundles)))
    context = SimpleNamespace(was_current_actor_reconstructed=again)
    monkeypatch.setattr(memory.ray, "get_runtime_context", lambda: context)
    monkeypatch.setenv(adapter.VARIABLE, platform)
    flags = {"model": "m", "gpu_memory_utilization": 0.6, "bundle_indices": [4, 5]}
    asyncio.run(rollout.PrefixRollout.__init__(object.__new__(rollout.PrefixRollout), **flags))
    assert events == [(0.6, [4, 5])] * waits + ["vLLM"]


class Engine:
    """An actor without a GPU of its own, whose workers are in two bundles; the second time it looks at their GPUs."""

    def __init__(self, fails: bool) -> None:
        self.share = memory.share_of([0, 1]) if memory.is_successor() else None
        if fails and self.share:
            raise ValueError("no memory")

    def look(self) -> float | None:
        return self.share

    def die(self) -> None:
        os._exit(1)


def after_a_death(group: PlacementGroup, fails: bool) -> float | str:
    """What a successor sees, or that there is none."""
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    engine = ray.remote(max_restarts=2, num_cpus=0)(Engine).options(scheduling_strategy=place).remote(fails)
    assert ray.get(engine.look.remote(), timeout=60) is None
    engine.die.remote()
    for _ in range(60):
        time.sleep(1.0)
        try:
            return ray.get(engine.look.remote(), timeout=60)
        except ActorUnavailableError:
            pass
        except ActorDiedError as error:
            return "no memory" if "no memory" in str(error) else str(error)
    return "neither"


def test_ray_makes_a_dead_engine_anew_once_if_it_cannot_start(gpus: Path) -> None:
    """Why it waits; and that a trainer's share of a GPU leaves room for the question, asked on every bundle."""
    gpus.write_text("60000, 80000\n")
    variables = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[2])])}
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    try:
        group = placement_group([{"GPU": 1, "CPU": 1}] * 2)
        ray.get(group.ready())
        assert [after_a_death(group, fails) for fails in (False, True)] == [0.75, "no memory"]
        asked = (gpus.parent / "asked").read_text().split()
        assert {asked[at + 1] for at, word in enumerate(asked) if word == "-i"} == {"0", "1"}
    finally:
        ray.shutdown()
