"""Weights from the trainer to vLLM without NCCL: a bare gloo group over a TCP store.

Same calls as vLLM's NCCL group: rank 0 of the trainer broadcasts one bucket after the other, every engine receives
(cpu_worker.py).
"""

from datetime import timedelta

import torch
import torch.distributed as dist

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
