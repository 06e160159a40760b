"""vLLM worker extension on GPUs: weights by NCCL or CUDA IPC, and the fingerprints that check them.

The group for NCCL is made by OpenRLHF's WorkerWrap. Each bucket is loaded as it comes, from views into one buffer:
vLLM copies them into its own layers, fused and sliced.
"""

from typing import Any

import torch
from openrlhf.trainer.ray.utils import get_physical_gpu_id
from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

from openrlhf_prefix.runtime.weights.buckets import ExpectsBuckets
from openrlhf_prefix.runtime.weights.check import EngineFingerprints

DEVICE = 6  # place of the device's number among the arguments of torch's rebuild_cuda_tensor


class CudaWorkerExtension(WorkerWrap, ExpectsBuckets, EngineFingerprints):
    """Named in worker_extension_cls; vLLM mixes it into its worker class."""

    def receive_bucket(self, number: int, handles: dict[str, Any] | None = None) -> None:
        """Loads the next bucket.

        Args:
            number: of the bucket.
            handles: physical GPU -> CUDA IPC handle of the trainer's buffer there; without them it is broadcast.
        """
        bucket = self._buckets[number]
        buffer = self._broadcast(bucket.size) if handles is None else self._opened(handles[get_physical_gpu_id()])
        self.model_runner.model.load_weights(weights=list(bucket.unpack(buffer)))
        torch.cuda.synchronize()  # the trainer lets its buffer go when this returns

    def _broadcast(self, size: int) -> torch.Tensor:
        buffer = torch.empty(size, dtype=torch.uint8, device=self.device)
        if self._model_update_with_ray:
            from ray.util import collective

            collective.broadcast(buffer, 0, group_name=self._model_update_group)
        else:
            self._model_update_group.broadcast(buffer, src=0, stream=torch.cuda.current_stream())
        return buffer

    def _opened(self, handle: tuple[Any, tuple[Any, ...]]) -> torch.Tensor:
        rebuild, arguments = handle
        # The trainer may see this GPU under another number.
        return rebuild(*arguments[:DEVICE], self.device.index, *arguments[DEVICE + 1 :])
