"""Stages of the smoke run with something changed: broken on purpose, or as on a GPU with stand-ins for the GPU.

The stand-ins are few: a number for allocated memory, DeepSpeed's sleep and wake, sdpa for flash-attn, and a file for a
CUDA IPC handle. What is run is what a GPU would run around them.
"""

import dataclasses
from pathlib import Path
from typing import Any

import gpu.attention
import gpu.ipc
import gpu.learner
import gpu.numerics
import gpu.sizes
import torch
import torch.distributed as dist
from gpu.stage import MIB, Outcome, Setting, check


def loss_times(factor: float) -> None:
    from openrlhf_prefix.runtime.learner.actor_trainer import PrefixActorTrainer

    right = PrefixActorTrainer._loss
    PrefixActorTrainer._loss = lambda *given: factor * right(*given)


def trains_backwards(setting: Setting) -> Outcome:
    loss_times(-1)
    return gpu.learner.train(setting)


def divides_by_another_number(setting: Setting) -> Outcome:
    loss_times(1.001)
    return gpu.numerics.run(setting)


def loses_what_it_sends(setting: Setting) -> Outcome:
    from openrlhf_prefix.runtime.weights.buckets import Bucket

    right = Bucket.pack
    Bucket.pack = lambda bucket, values, device: right(bucket, values, device).zero_()
    return gpu.ipc.run(setting)


def has_no_memory(setting: Setting) -> Outcome:
    raise RuntimeError("CUDA error: out of memory\nmore about it")


class LikeOnGpu(Setting):
    """On a CPU, with everything that a stage does on a GPU; so, too, in the second process of ipc.py."""

    on_gpu = True

    def __reduce__(self) -> tuple[Any, ...]:
        return in_second_process, (self.work,)


gpu.sizes.GPU = dataclasses.replace(gpu.sizes.QUICK)


def learner_and_attention(setting: Setting) -> Outcome:
    from openrlhf.trainer.ray import ppo_actor

    from openrlhf_prefix import pins

    like, held, calls = LikeOnGpu("cpu", True, setting.work, 60.0), [100], []

    def moves(name: str, mib: int) -> Any:
        def move(engine: Any) -> None:
            calls.append(name)
            held[0] = mib

        return move

    ppo_actor.offload_deepspeed_states, ppo_actor.reload_deepspeed_states = moves("sleep", 10), moves("wake", 100)
    torch.cuda.memory_allocated = lambda: held[0] * MIB
    torch.cuda.max_memory_allocated = lambda: 120 * MIB
    trained, resumed = gpu.learner.train(like), gpu.learner.resume(like)
    # Each is asleep when it is made; the first saves asleep, and trains on.
    check(calls == ["sleep", "wake", "sleep", "wake", "sleep", "wake", "sleep"], f"{calls}")
    pins.missing = lambda *names: []
    way = gpu.attention.Way
    gpu.attention.Way = lambda kernel, packed, dtype: way("sdpa", packed, dtype)
    compared = gpu.attention.run(like)
    return Outcome(f"{resumed.shows}; {compared.shows}", {"trained": trained.numbers, "compared": compared.numbers})


def weights_by_handle(setting: Setting) -> Outcome:
    from openrlhf_prefix.runtime.learner import sender

    handed = []

    def shared(buffer: torch.Tensor) -> dict[str, Any]:
        handed.append(setting.work / f"buffer{len(handed)}.pt")
        torch.save(buffer, handed[-1])
        return {"GPU-0": (opened, (handed[-1], 1, 2, 3, 4, 5, "the trainer's number", 7, 8))}

    sender._shared = shared
    init = dist.init_process_group
    dist.init_process_group = lambda backend: init({"nccl": "gloo"}[backend])
    return gpu.ipc.run(LikeOnGpu("cpu", True, setting.work, 60.0))


def opened(path: Path, *rest: Any) -> torch.Tensor:
    assert rest[5] == 0, f"argument 6 of a handle is the engine's own number of the GPU, and not {rest[5]!r}"
    return torch.load(path)


def in_second_process(work: Path) -> LikeOnGpu:
    from gpu import stand_ins

    stand_ins.install()
    from openrlhf_prefix.runtime.platform import adapter

    adapter.current().install()
    adapter.CpuPlatform.worker_extension = adapter.CudaPlatform.worker_extension
    from openrlhf_prefix.runtime.engine import cuda_worker

    cuda_worker.get_physical_gpu_id = lambda: "GPU-0"
    return LikeOnGpu("cpu", True, work, 60.0)
