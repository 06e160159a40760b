"""vLLM worker extension on a CPU: weights by gloo, and the fingerprints that check them.

On the CPU vLLM repacks its weights after loading, so that loading a single one again fails: the engine collects a
round and reloads all at once when the trainer marks the last parameter (`empty_cache`). Where oneDNN multiplies in
bf16 it also throws the originals away, which a reload copies into and the check after each sync reads
(weights/check.py): here they stay. vLLM imports this module before it loads the model, and that must be known by then.
"""

from typing import Any

import torch
import torch.distributed as dist
from vllm.model_executor.layers import utils as layers

from openrlhf_prefix.runtime.engine.process import DiesWithActor
from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.weights.check import EngineFingerprints
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator


class GlooWorkerExtension(EngineFingerprints, DiesWithActor):
    """Named in worker_extension_cls: OpenRLHF's WorkerWrap for a CPU engine."""

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

    def update_weight(self, name: str, dtype: torch.dtype, shape: torch.Size, empty_cache: bool = False) -> None:
        weight = torch.empty(shape, dtype=dtype)
        self._sync_group.broadcast(weight, src=0)
        self._received.append((name, weight))
        if empty_cache:
            self.model_runner.reload_weights(weights_iterator=iter(self._received))
            self._received = []


_pack = layers.dispatch_cpu_unquantized_gemm


def pack_and_keep(layer: torch.nn.Module, remove_weight: bool) -> Any:
    """vLLM's choice of a kernel for a layer; the weight that it packs stays beside the packed copy."""
    return _pack(layer, remove_weight=False)


layers.dispatch_cpu_unquantized_gemm = pack_and_keep
