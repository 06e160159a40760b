"""The trainer's side of a weight sync: bucket after bucket to all engines (weights/buckets.py).

    gather (ZeRO-3), merge (LoRA) -> one flat copy -> NCCL or gloo broadcast, or a CUDA IPC handle where engine and
    trainer share a GPU

Takes the place of OpenRLHF's loop, which makes a call to every engine and a broadcast for each parameter. The whole
bucket is gathered at once, and copied before it is let go. The groups in which weights travel stay OpenRLHF's.
"""

from collections.abc import Mapping
from typing import Any

import ray
import torch
import torch.distributed as dist
from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer
from openrlhf.trainer.ray.utils import get_physical_gpu_id
from openrlhf.utils.distributed_util import torch_dist_barrier_and_cuda_sync

from openrlhf_prefix.runtime.learner import lora
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.weights import buckets

Sources = Mapping[str, Mapping[str, torch.nn.Parameter]]  # the engine's name -> what its weight is made of


class Sender:
    """Sends the weights of a trainer; every rank has one, and all of them have to call send().

    Args:
        trainer: whose groups and engines are used.
    """

    def __init__(self, trainer: ActorPPOTrainer) -> None:
        self.trainer = trainer
        self.introduced = False  # whether the engines know what comes in which bucket; a new one does not

    def send(self) -> None:
        """The current weights to all engines."""
        trainer, limit = self.trainer, adapter.current().bucket_bytes
        cached = self._ask("reset_prefix_cache") if trainer.args.vllm.enable_prefix_caching else []
        torch.cuda.empty_cache()
        sources = self._sources()
        tensors = [buckets.described(name, next(iter(parts.values()))) for name, parts in sources.items()]
        if not self.introduced:
            ray.get(self._ask("expect_weights", tensors, limit))
            self.introduced = True
        for number, bucket in enumerate(buckets.plan(tensors, limit)):
            self._deliver(number, self._packed(bucket, sources))
        ray.get(cached)
        torch.cuda.empty_cache()
        torch_dist_barrier_and_cuda_sync()

    def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """Rank 0 calls every engine; references to the answers."""
        if dist.get_rank() != 0:
            return []
        return [getattr(engine, method).remote(*arguments) for engine in self.trainer.vllm_engines]

    def _sources(self) -> Sources:
        model = self.trainer.engine.module
        if self.trainer.args.ds.lora.rank:
            return lora.sources(model)
        text_only = getattr(self.trainer.actor, "is_vlm", False)  # the rest of such a model is frozen
        return {name: {name: p} for name, p in model.named_parameters() if p.requires_grad or not text_only}

    def _packed(self, bucket: buckets.Bucket, sources: Sources) -> torch.Tensor | None:
        """A copy of the bucket's weights; None on ranks from which nothing is sent."""
        import deepspeed

        made_of = [sources[tensor.name] for tensor in bucket.tensors]
        needed = self.trainer.use_cuda_ipc or dist.get_rank() == 0
        flags = self.trainer.args.ds.lora
        scale = lora.scaling(flags) if flags.rank else 0.0
        with (
            torch.no_grad(),
            deepspeed.zero.GatheredParameters(
                [parameter for parts in made_of for parameter in parts.values()],
                enabled=self.trainer.args.ds.zero_stage == 3,
            ),
        ):
            values = (value for parts in made_of for value in lora.merge(parts, scale).values())
            return bucket.pack(values, torch.cuda.current_device()) if needed else None

    def _deliver(self, number: int, buffer: torch.Tensor | None) -> None:
        """Returns when all engines have taken the bucket in."""
        if self.trainer.use_cuda_ipc:
            handles = _shared(buffer)
            ray.get(self._ask("receive_bucket", number, handles))
            dist.barrier()  # engines read the buffers of all ranks, which are held until here
        elif buffer is not None:
            answers = self._ask("receive_bucket", number)
            self._broadcast(buffer)
            ray.get(answers)

    def _broadcast(self, buffer: torch.Tensor) -> None:
        group = self.trainer._model_update_group
        if self.trainer.args.vllm.sync_with_ray:
            import ray.util.collective as collective

            collective.broadcast(buffer, 0, group_name=group)
        else:
            group.broadcast(buffer, src=0, stream=torch.cuda.current_stream())


def _shared(buffer: torch.Tensor) -> dict[str, Any]:
    """GPU -> handle by which another process opens the buffer there; of all ranks."""
    from torch.multiprocessing.reductions import reduce_tensor

    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, {get_physical_gpu_id(): reduce_tensor(buffer)})
    return {gpu: handle for one in gathered for gpu, handle in one.items()}
