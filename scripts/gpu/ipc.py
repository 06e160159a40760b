"""Stage 5: do the trainer's weights reach another process on the same GPU through CUDA IPC, every bit of them?

    this process                      buckets, by handle            a second one
    Sender (learner/sender.py)   ---------------------------->   the worker extension of our engines
    fingerprints                 <- compared (weights/check.py) ->   a model that vLLM would hold

The sender and the worker are the real ones; the engine between them is a pipe, and the worker's model a Qwen2 with
other weights, whose loader copies by name. Every weight is then changed by its lowest bit: the comparison has to find
all of them, and none after the next sync. On a CPU the same goes over gloo, through the worker of a CPU engine.
"""

import os
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from gpu import stand_ins
from gpu.sizes import sizes
from gpu.stage import MIB, Outcome, Setting, Skipped, check, free_port, timed

PATIENCE = 60.0  # seconds for an answer


def run(setting: Setting) -> Outcome:
    if not setting.on_gpu and "vllm" in stand_ins.used():
        raise Skipped("the worker of a CPU engine needs vLLM, which is not installed here")
    torch.cuda.set_device(0)
    dist.init_process_group("nccl" if setting.on_gpu else "gloo")
    engine = Engine(setting)
    try:
        return _sent_and_compared(setting, engine)
    finally:
        engine.process.kill()


def _sent_and_compared(setting: Setting, engine: "Engine") -> Outcome:
    from openrlhf_prefix.runtime.learner import sender
    from openrlhf_prefix.runtime.seams import replaced
    from openrlhf_prefix.runtime.weights import check as weights
    from openrlhf_prefix.runtime.weights.sync import GlooCommunicator

    model = make_model(setting, seed=3)
    engine.answer()  # that its model is there
    trainer = stub_trainer(setting, model, engine)
    if not setting.on_gpu:
        port = free_port()
        joined = engine.init_process_group.remote("127.0.0.1", port, 1, 2, "weights")
        trainer._model_update_group = GlooCommunicator("127.0.0.1", port, 0, 2)
        joined.result()

    def compared() -> weights.Comparison:
        held = weights.EngineWeights(**engine.weight_fingerprints.remote().result())
        return weights.compare(weights.trainer_fingerprints(model), [held])

    with replaced(sender.__name__, "ray", SimpleNamespace(get=stand_ins.get)):
        sending = sender.Sender(trainer)
        first, _ = timed(setting, sending.send)
        found = compared()
        check(
            not found.wrong and not found.unchecked,
            f"{len(found.wrong)} weights differ after a sync: {found.wrong[:3]}",
        )
        weights.flip_lowest_bits(model)
        flipped = compared()
        check(
            len(flipped.wrong) == found.checked, f"{len(flipped.wrong)} of {found.checked} changed weights are noticed"
        )
        seconds, _ = timed(setting, sending.send)
        check(not compared().wrong, "a second sync did not carry the changed weights")
    size = sum(parameter.nbytes for parameter in model.parameters()) / MIB
    way = "CUDA IPC" if setting.on_gpu else "gloo"
    return Outcome(
        f"{found.checked} weights, {size:.1f} MiB, by {way} in {seconds:.2f} s; equal, and a changed bit is seen",
        {"MiB": size, "first_seconds": first, "seconds": seconds, "weights": found.checked},
    )


def make_model(setting: Setting, seed: int) -> Any:
    """A Qwen2 in bf16 on the device, with random weights of `seed`."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    size = sizes(setting)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=max(1, size.heads // 4),
        tie_word_embeddings=False,
    )
    return Qwen2ForCausalLM(config).to(setting.device, torch.bfloat16)


def stub_trainer(setting: Setting, model: Any, engine: "Engine") -> Any:
    """What the sender asks a trainer for."""
    args = SimpleNamespace(
        vllm=SimpleNamespace(enable_prefix_caching=False, sync_with_ray=False),
        ds=SimpleNamespace(lora=SimpleNamespace(rank=0), zero_stage=2),
    )
    return SimpleNamespace(
        args=args,
        engine=SimpleNamespace(module=model),
        actor=SimpleNamespace(is_vlm=False),
        vllm_engines=[engine],
        use_cuda_ipc=setting.on_gpu,
    )


class Engine:
    """The handle of an engine, whose worker is a process of its own: `engine.method.remote(...)`."""

    def __init__(self, setting: Setting) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, setting), daemon=True)
        self.process.start()

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.pipe.send((method, arguments))
            return SimpleNamespace(result=self.answer)

        return SimpleNamespace(remote=call)

    def answer(self) -> Any:
        """The next one; answers come in the order of the calls."""
        check(self.pipe.poll(PATIENCE), f"the second process did not answer within {PATIENCE:.0f} s")
        kind, value = self.pipe.recv()
        check(kind == "answer", f"the second process: {value}")
        return value


def work(pipe: Any, setting: Setting) -> None:
    """The second process: a worker of an engine with a model that can be loaded by name, until it is killed."""
    stand_ins.install()
    from openrlhf_prefix.runtime.platform import adapter

    adapter.current().install()
    os.environ["MASTER_PORT"] = str(free_port())  # a world of its own, as vLLM's workers have
    try:
        torch.cuda.set_device(0)
        dist.init_process_group("gloo")
        worker = make_worker(setting, adapter.current().worker_extension)
        pipe.send(("answer", None))
        while True:
            method, arguments = pipe.recv()
            pipe.send(("answer", getattr(worker, method)(*arguments)))
    except EOFError:
        return
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        raise


def make_worker(setting: Setting, extension: str) -> Any:
    """The extension as vLLM mixes it in, on what it reads of vLLM's worker."""
    import importlib

    module, _, name = extension.rpartition(".")
    worker = getattr(importlib.import_module(module), name)()
    model = make_model(setting, seed=4)
    held = dict(model.named_parameters())

    def load_weights(weights: Any) -> None:
        for name, value in weights:
            held[name].data.copy_(value)

    model.load_weights = load_weights
    worker.device, worker._model_update_with_ray = torch.device(setting.device, 0), False
    worker.model_config = SimpleNamespace(dtype=torch.bfloat16, get_total_num_kv_heads=lambda: 2)
    worker.model_runner = SimpleNamespace(
        model=model, get_model=lambda: model, reload_weights=lambda weights_iterator: load_weights(weights_iterator)
    )
    return worker
