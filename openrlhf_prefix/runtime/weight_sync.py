"""Weights from the trainer to vLLM without NCCL: a bare gloo group over a TCP store.

Same calls as OpenRLHF's: rank 0 of the trainer broadcasts one parameter after the other, every engine receives. On the
CPU vLLM repacks its weights after loading, so that loading a single one again fails: the engine collects a round and
reloads all at once when the trainer marks the last parameter (`empty_cache`). It also throws the originals away, which
the check after each sync wants to read (weight_check.py): here they stay.
"""

import importlib
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from openrlhf_prefix.runtime import platform
from openrlhf_prefix.runtime.weight_check import EngineFingerprints

TIMEOUT = timedelta(minutes=10)


class GlooCommunicator:
    """The part of vLLM's PyNcclCommunicator that weight sync uses."""

    def __init__(self, host: str, port: int, rank: int, world_size: int) -> None:
        store = dist.TCPStore(host, port, world_size, is_master=rank == 0, timeout=TIMEOUT)
        self.group = dist.ProcessGroupGloo(store, rank, world_size, TIMEOUT)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: object = None) -> None:
        """Sends `tensor` (contiguous) from rank `src` to all others, in place."""
        options = dist.BroadcastOptions()
        options.rootRank = src
        # gloo has no bf16: a view as bytes carries every dtype unchanged.
        self.group.broadcast([tensor.view(-1).view(torch.uint8)], options).wait()


def gloo_group(host: str, port: int, rank: int, world_size: int, device: object) -> GlooCommunicator:
    """Takes the place of OpenRLHF's stateless_init_process_group."""
    return GlooCommunicator(host, port, rank, world_size)


def keep_original_weights() -> None:
    """From now on vLLM's CPU layers keep the weights they were packed from."""
    layers = importlib.import_module("vllm.model_executor.layers.utils")
    if hasattr(layers, "_packing_of_vllm"):
        return
    layers._packing_of_vllm = layers.dispatch_cpu_unquantized_gemm

    def keeping(layer: torch.nn.Module, remove_weight: bool) -> Any:
        return layers._packing_of_vllm(layer, remove_weight=False)

    layers.dispatch_cpu_unquantized_gemm = keeping


class GlooWorkerExtension(EngineFingerprints):
    """vLLM worker extension (worker_extension_cls): OpenRLHF's WorkerWrap for a CPU engine."""

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
        keep_original_weights()
        platform.current().patch_engine()
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
