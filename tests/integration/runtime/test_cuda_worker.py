"""The worker of a GPU engine without a GPU: what it loads from a broadcast buffer, and through a CUDA IPC handle."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")

import torch

from openrlhf_prefix.runtime.engine import cuda_worker
from openrlhf_prefix.runtime.weights.buckets import Tensor, plan

VALUES = {"a.weight": torch.randn(3, 5).bfloat16(), "a.bias": torch.randn(3), "b.weight": torch.randn(4, 4).bfloat16()}
TENSORS = [Tensor(name, str(value.dtype)[6:], list(value.shape)) for name, value in VALUES.items()]
LIMIT = 64  # bytes: two buckets
PLAN = plan(TENSORS, LIMIT)
BUFFERS = [bucket.pack([VALUES[one.name] for one in bucket.tensors], "cpu") for bucket in PLAN]


@pytest.fixture
def worker(monkeypatch) -> Any:
    """With a model that notes down what it is to load."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(cuda_worker, "get_physical_gpu_id", lambda: "GPU-b")
    made, loaded = cuda_worker.CudaWorkerExtension(), {}
    made.device, made._model_update_with_ray, made.loaded = torch.device("cpu", 0), False, loaded
    made.model_runner = SimpleNamespace(model=SimpleNamespace(load_weights=lambda weights: loaded.update(weights)))
    made.expect_weights([list(tensor) for tensor in TENSORS], LIMIT)
    return made


def holds(worker: Any) -> bool:
    return list(worker.loaded) == list(VALUES) and all(
        torch.equal(worker.loaded[name], value) and worker.loaded[name].dtype == value.dtype
        for name, value in VALUES.items()
    )


def test_it_loads_what_is_broadcast(worker) -> None:
    sent = iter(BUFFERS)

    def broadcast(buffer: torch.Tensor, src: int, stream: str) -> None:
        assert (src, stream) == (0, "stream")
        buffer.copy_(next(sent))

    worker._model_update_group = SimpleNamespace(broadcast=broadcast)
    for number in range(len(PLAN)):
        worker.receive_bucket(number)
    assert len(PLAN) == 2 and holds(worker)


def test_it_opens_the_handle_of_its_own_gpu_under_its_own_number(worker) -> None:
    def rebuild(*arguments: Any) -> torch.Tensor:
        number, device = arguments[0], arguments[6]
        assert device == 0 and arguments[1:6] + arguments[7:] == (1, 2, 3, 4, 5, 7, 8)
        return BUFFERS[number]

    for number in range(len(PLAN)):
        here = (rebuild, (number, 1, 2, 3, 4, 5, "the trainer's number", 7, 8))
        worker.receive_bucket(number, {"GPU-a": (None, ()), "GPU-b": here})
    assert holds(worker)


def test_what_is_sent_arrives_through_vllms_serialisation(worker, monkeypatch) -> None:
    """vLLM's engine is a process of its own on a GPU, and sends on what the actor is asked."""
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    from torch.multiprocessing.reductions import rebuild_cuda_tensor
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    handle = (rebuild_cuda_tensor, (torch.Tensor, [10], [1], 0, torch.uint8, 0, 0, b"handle", True))
    sent = [("expect_weights", (TENSORS, LIMIT)), ("receive_bucket", (3, {"GPU-a": handle}))]
    plans, bucket = MsgpackDecoder().decode(MsgpackEncoder().encode(sent))
    worker.expect_weights(*plans[1])
    assert worker._buckets == PLAN
    number, handles = bucket[1]
    rebuild, arguments = handles["GPU-a"]
    assert number == 3 and rebuild is rebuild_cuda_tensor and tuple(arguments) == handle[1]
