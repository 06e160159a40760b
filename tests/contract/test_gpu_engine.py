"""vLLM's GPU engine without a GPU: its real worker class with our extension, its serialisation, a sleeping optimizer.

The classes are those of both builds of vLLM; what would compute on a GPU is a stand-in.
"""

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")
pytest.importorskip("openrlhf")

import torch  # noqa: E402
from deepspeed.runtime.zero.offload_states import offload_adam_states  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from vllm.v1 import engine as messages  # noqa: E402
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder, UtilityResult, run_method  # noqa: E402
from vllm.v1.worker import gpu_worker, worker_base  # noqa: E402

from openrlhf_prefix.runtime.engine import cuda_worker  # noqa: E402
from openrlhf_prefix.runtime.learner.checkpoints import drop_sleeping_copies  # noqa: E402
from openrlhf_prefix.runtime.platform import adapter  # noqa: E402
from openrlhf_prefix.runtime.weights import buckets  # noqa: E402
from openrlhf_prefix.runtime.weights.check import EngineWeights, compare, fingerprint, read  # noqa: E402

TRAINED = {
    "layers.0.q_proj.weight": torch.randn(4, 8).bfloat16(),
    "layers.0.k_proj.weight": torch.randn(2, 8).bfloat16(),
    "layers.0.v_proj.weight": torch.randn(2, 8).bfloat16(),
    "norm.weight": torch.randn(8).bfloat16(),
}
TENSORS = [buckets.Tensor(name, str(value.dtype)[6:], list(value.shape)) for name, value in TRAINED.items()]
LIMIT = 96  # bytes: two buckets
SENT = dict(enumerate(buckets.plan(TENSORS, LIMIT)))


class Fused(torch.nn.Module):
    """A model as vLLM has them: q, k and v in one layer, which it fills by itself."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
    rows = {"q_proj": slice(0, 4), "k_proj": slice(4, 6), "v_proj": slice(6, 8)}

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Module()])
        self.layers[0].qkv_proj = torch.nn.Linear(8, 8, bias=False, dtype=torch.bfloat16)
        self.norm = torch.nn.LayerNorm(8, bias=False, dtype=torch.bfloat16)

    def load_weights(self, weights: list[tuple[str, torch.Tensor]]) -> None:
        for name, value in weights:
            part = name.split(".")[-2]
            target = self.norm.weight if part == "norm" else self.layers[0].qkv_proj.weight[self.rows[part]]
            target.data.copy_(value)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As vLLM makes it, which mixes our class into its own and refuses names that both have."""

    def start(self: Any, vllm_config: Any, **kwargs: Any) -> None:
        model = Fused()
        self.device, self.model_config = torch.device("cuda", 0), vllm_config.model_config
        self.model_runner = SimpleNamespace(model=model, get_model=lambda: model)

    monkeypatch.setattr(gpu_worker.Worker, "__init__", start)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: None)
    monkeypatch.setattr(cuda_worker, "get_physical_gpu_id", lambda: "GPU-0")
    config = SimpleNamespace(
        enable_trace_function_call_for_thread=lambda: None,
        parallel_config=SimpleNamespace(
            worker_cls="vllm.v1.worker.gpu_worker.Worker", worker_extension_cls=adapter.CudaPlatform.worker_extension
        ),
        model_config=SimpleNamespace(multimodal_config=None, dtype=torch.bfloat16, get_total_num_kv_heads=lambda: 2),
        compilation_config=SimpleNamespace(enabled_custom_ops=(), disabled_custom_ops=()),
    )
    made, bases = worker_base.WorkerWrapperBase(rpc_rank=0), gpu_worker.Worker.__bases__
    made.init_worker([{"vllm_config": config}])
    yield made
    gpu_worker.Worker.__bases__ = bases


def opened(number: int, *rest: Any) -> torch.Tensor:
    """In the place of torch's rebuild_cuda_tensor: the trainer's buffer, under this worker's number of the GPU."""
    assert rest[5] == 0, "the device is the sixth argument behind this one"
    return SENT[number].pack([TRAINED[one.name] for one in SENT[number].tensors], "cpu")


def called(worker: Any, method: str, *arguments: Any) -> Any:
    """An answer, by the way that a call takes to an engine's process and its worker, and back."""
    request = (0, 1, "collective_rpc", (method, None, arguments, None))
    name, _, args, _ = MsgpackDecoder().decode(MsgpackEncoder().encode(request))[3]
    answer = run_method(worker, name, tuple(args), {})
    output = messages.EngineCoreOutputs(utility_output=messages.UtilityOutput(1, result=UtilityResult([answer])))
    decoded = MsgpackDecoder(messages.EngineCoreOutputs).decode(MsgpackEncoder().encode(output))
    return decoded.utility_output.result.result[0]


def test_a_sync_reaches_the_gpu_worker_and_its_fingerprints_come_back(worker: Any, monkeypatch) -> None:
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    called(worker, "expect_weights", TENSORS, LIMIT)
    for number in SENT:
        handle = (opened, (number, 1, 2, 3, 4, 5, "the trainer's number", 7, 8))
        called(worker, "receive_bucket", number, {"GPU-1": None, "GPU-0": handle})
    trained = read({name: fingerprint(value) for name, value in TRAINED.items()})
    found = compare(trained, [EngineWeights(**called(worker, "weight_fingerprints"))])
    assert len(SENT) == 2 and (found.checked, found.wrong, found.unchecked) == (4, (), ())
    stale = trained | {"layers.0.k_proj.weight": 0}
    wrong = compare(stale, [EngineWeights(**called(worker, "weight_fingerprints"))]).wrong
    assert wrong == ("layers.0.q_proj.weight", "layers.0.k_proj.weight", "layers.0.v_proj.weight")


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, -1, 0])
def test_a_fingerprint_of_64_bits_survives_the_way(value: int) -> None:
    worker = SimpleNamespace(weight_fingerprints=lambda: {"fingerprints": {"a": value}})
    assert called(worker, "weight_fingerprints") == {"fingerprints": {"a": value}}


@pytest.mark.parametrize("module", ["vllm.v1.worker.gpu_model_runner", "vllm.v1.worker.gpu.model_runner"])
def test_both_model_runners_have_what_the_extension_reads(module: str) -> None:
    runner = pytest.importorskip(module).GPUModelRunner
    assert callable(runner.get_model) and "self.model = " in inspect.getsource(runner).replace(": nn.Module", "")


def test_a_bucket_of_bytes_can_be_broadcast_by_nccl() -> None:
    """By the calls of cuda_worker.py, sender.py and OpenRLHF's stateless_init_process_group."""
    from openrlhf.utils import distributed_util
    from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
    from vllm.distributed.device_communicators.pynccl_wrapper import ncclDataTypeEnum
    from vllm.distributed.utils import StatelessProcessGroup

    inspect.signature(PyNcclCommunicator.broadcast).bind("self", "buffer", src=0, stream="stream")
    inspect.signature(PyNcclCommunicator.__init__).bind("self", "group", device=0)
    inspect.signature(StatelessProcessGroup.create).bind(host="h", port=1, rank=0, world_size=2)
    assert "StatelessProcessGroup.create(" in inspect.getsource(distributed_util)
    assert ncclDataTypeEnum.from_torch(torch.uint8) == ncclDataTypeEnum.ncclUint8


def test_a_worker_sleeps_and_wakes_in_parts() -> None:
    """OpenRLHF wakes the weights alone for a sync, and the cache for the rollouts."""
    from openrlhf.trainer.ray import vllm_engine

    inspect.signature(gpu_worker.Worker.sleep).bind("self", level=1)
    inspect.signature(gpu_worker.Worker.wake_up).bind("self", tags=["weights"])
    assert "tags" in inspect.getsource(vllm_engine)


def devices(optimizer: torch.optim.Optimizer) -> dict[str, str]:
    (state,) = optimizer.state.values()
    return {name: value.device.type for name, value in state.items() if name != "step"}


def test_the_buffers_of_a_sleeping_optimizer_come_back_onto_the_gpu_and_are_taken_off() -> None:
    """Fake tensors know devices without a GPU. A save happens asleep; DeepSpeed's buffers are in it."""

    def adam() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(torch.empty(4, device="cuda"))
        return parameter, torch.optim.Adam([parameter])

    with FakeTensorMode(allow_non_fake_inputs=True):
        parameter, optimizer = adam()
        moments = {name: torch.zeros(4, device="cuda") for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(1.0), **moments}
        offload_adam_states(optimizer, "cpu")
        saved = optimizer.state_dict()
        _, resumed = adam()
        resumed.load_state_dict(saved)
        assert list(devices(resumed).values()) == ["cuda"] * 4  # two of them for good
        drop_sleeping_copies(resumed)
        assert devices(resumed) == {"exp_avg": "cuda", "exp_avg_sq": "cuda"}
        offload_adam_states(resumed, "cpu")
        assert [devices(resumed)[f"{name}_offload_buffer"] for name in moments] == ["cpu", "cpu"]
