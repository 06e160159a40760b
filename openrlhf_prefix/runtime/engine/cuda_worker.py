"""vLLM worker extension on GPUs: OpenRLHF's weight sync, and the fingerprints that check it."""

from openrlhf.trainer.ray.vllm_worker_wrap import WorkerWrap

from openrlhf_prefix.runtime.engine.process import DiesWithActor
from openrlhf_prefix.runtime.weights.check import EngineFingerprints


class CudaWorkerExtension(WorkerWrap, EngineFingerprints, DiesWithActor):
    """Named in worker_extension_cls; vLLM mixes it into its worker class."""
