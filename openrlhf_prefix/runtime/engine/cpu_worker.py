"""vLLM worker extension on a CPU: weights by gloo, and the fingerprints that check them.

On the CPU vLLM repacks its weights after loading, so that loading some of them again fails: the engine collects the
buckets of a sync and reloads all at once after the last one. Where oneDNN multiplies in
bf16 it also throws the originals away, which a reload copies into and the check after each sync reads
(weights/check.py): here they stay. vLLM imports this module before it loads the model, and that must be known by then.
"""

from typing import Any

import torch
import torch.distributed as dist
from vllm.model_executor.layers import utils as layers

from openrlhf_prefix.runtime.platform import adapter, cpu_sampling
from openrlhf_prefix.runtime.weights.buckets import ExpectsBuckets
from openrlhf_prefix.runtime.weights.check import EngineFingerprints
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator


class GlooWorkerExtension(ExpectsBuckets, EngineFingerprints):
    """Named in worker_extension_cls: the place of OpenRLHF's WorkerWrap in a CPU engine."""

    def init_process_group(
        self,
        master_address: str,
        master_port: int,
        rank_offset: int,
        world_size: int,
        group_name: str,
        backend: str = "gloo",
        use_ray: bool = False,
    ) -> None:
        adapter.current().patch_engine()
        rank = dist.get_rank() + rank_offset
        self._sync_group = GlooCommunicator(master_address, master_port, rank, world_size)
        self._received: list[tuple[str, torch.Tensor]] = []

    def receive_bucket(self, number: int) -> None:
        bucket = self._buckets[number]
        buffer = torch.empty(bucket.size, dtype=torch.uint8)
        self._sync_group.broadcast(buffer, src=0)
        self._received += bucket.unpack(buffer)
        if number + 1 == len(self._buckets):
            self.model_runner.reload_weights(weights_iterator=iter(self._received))
            self._received = []


_pack = layers.dispatch_cpu_unquantized_gemm


def pack_and_keep(layer: torch.nn.Module, remove_weight: bool) -> Any:
    """vLLM's choice of a kernel for a layer; the weight that it packs stays beside the packed copy."""
    return _pack(layer, remove_weight=False)


layers.dispatch_cpu_unquantized_gemm = pack_and_keep
cpu_sampling.install()
