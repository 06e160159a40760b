"""Buckets from real trainer ranks to workers of engines, and what the workers hold then."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")

import torch
from policy_ranks import make_policy, make_source, run_ranks, train
from safetensors.torch import load_file

from openrlhf_prefix.runtime.audit.exactness.measure import free_port
from openrlhf_prefix.runtime.controller import weight_check
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.weights import buckets, check
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator

LIMIT = 4 * 1024  # bytes, of a model of about 30 KB
LAYOUTS = {1: [(2, 0)], 2: [(3, 0), (2, 4), (3, 4)]}  # ranks: ZeRO stage, rank of LoRA


class Engine:
    """The handle of an engine whose worker is the real one and runs in a thread; vLLM's model is a dictionary."""

    def __init__(self, source: Path) -> None:
        from openrlhf_prefix.runtime.engine.cpu_worker import GlooWorkerExtension

        self.held, self.calls, self.thread = load_file(source / "model.safetensors"), [], ThreadPoolExecutor(1)
        self.worker = GlooWorkerExtension()
        self.worker.model_runner = SimpleNamespace(reload_weights=self.reload)

    def reload(self, weights_iterator: Any) -> None:
        self.held |= {name: value.clone() for name, value in weights_iterator}

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.append(method)
            return self.thread.submit(getattr(self.worker, method), *arguments)

        return SimpleNamespace(remote=call)

    def compared(self, trainer: dict[str, int]) -> check.Comparison:
        held = check.read({name: check.fingerprint(value) for name, value in self.held.items()})
        return check.compare(trainer, [check.EngineWeights(held, {}, 1)])


def join(policy: Any, engines: list[Engine]) -> None:
    """Rank 0 and the engines form a group, as OpenRLHF's _init_vllm_sync_group has them do."""
    policy.trainer.vllm_engines, policy.trainer.sender.introduced = engines, False
    if torch.distributed.get_rank() == 0:
        port, world = free_port(), 1 + len(engines)
        joined = [e.init_process_group.remote("127.0.0.1", port, 1 + n, world, "") for n, e in enumerate(engines)]
        policy.trainer._model_update_group = GlooCommunicator("127.0.0.1", port, 0, world)
        [answer.result() for answer in joined]


def sync_and_compare(folder: Path, ranks: int) -> None:
    from openrlhf_prefix.runtime.learner import sender

    sender.ray = SimpleNamespace(get=lambda answers: [answer.result() for answer in answers])
    adapter.CpuPlatform.bucket_bytes = LIMIT
    for stage, rank in LAYOUTS[ranks]:
        flags = {"ds.zero_stage": stage, "ds.lora.rank": rank, "ds.lora.alpha": 8, "vllm.enable_prefix_caching": False}
        policy = make_policy(folder / "source", folder / f"{stage}_{rank}", **flags)
        engines = [Engine(folder / "source") for _ in range(2)]
        join(policy, engines)
        before = None
        for seed in (1, 2):
            train(policy, seed)
            policy.broadcast_to_vllm()
            trainer = policy.weight_fingerprints()
            assert trainer != before, "no weight has moved"
            before = trainer
            if torch.distributed.get_rank() == 0:
                for engine in engines:
                    assert engine.compared(trainer) == check.Comparison(len(trainer), (), ())
        if torch.distributed.get_rank() == 0:
            expected = ["init_process_group", "expect_weights", *["receive_bucket"] * 2 * count_of(engines[0])]
            assert engines[0].calls == engines[1].calls == expected
        newcomer = Engine(folder / "source")
        join(policy, [newcomer])
        policy.broadcast_to_vllm()
        if torch.distributed.get_rank() == 0:
            assert newcomer.calls[:2] == ["init_process_group", "expect_weights"]
            assert newcomer.compared(trainer).wrong == ()
        policy.actor.model.destroy()


def count_of(engine: Engine) -> int:
    """Buckets that the tensors of an engine make: at least as many as their bytes ask for."""
    size = sum(value.nbytes for value in engine.held.values())
    number = len(buckets.plan([buckets.described(*item) for item in engine.held.items()], LIMIT))
    assert size / LIMIT <= number < 2 * size / LIMIT + 1 and number >= 5
    return number


@pytest.mark.parametrize("ranks", LAYOUTS)
def test_engines_hold_what_the_trainer_holds_after_every_sync(ranks: int, tmp_path) -> None:
    make_source(tmp_path / "source", tied=False)
    run_ranks(ranks, sync_and_compare, tmp_path, ranks)


def test_the_check_is_due_after_the_first_five_syncs_and_then_every_kth() -> None:
    checks = weight_check.WeightCheck(every=4)
    assert [number for number in range(1, 21) if checks.due()] == [1, 2, 3, 4, 5, 8, 12, 16, 20]
    always = weight_check.WeightCheck(every=1)
    assert all(always.due() for _ in range(20))


def test_after_an_engines_death_the_check_does_not_wait(monkeypatch) -> None:
    checks = weight_check.WeightCheck(every=100)
    monkeypatch.setattr(checks, "_compare", lambda trainer, engines: {"sync/tensors_checked": 1.0})
    found = [checks.after_sync(None, [], replaced=number == 8) for number in range(1, 10)]
    assert [number for number, metrics in enumerate(found, 1) if metrics] == [1, 2, 3, 4, 5, 8]
