"""Calls and seconds of a weight sync: one message per parameter, as OpenRLHF sends them, against buckets.

    python benchmarks/sync.py                     # 60 MB and 450 MB, 1 and 2 engines, five pairs each

Both ways run in turn, from one trainer process to the same engines (Ray actors) over the same gloo group, and every
engine's tensors are compared with the trainer's after each. vLLM's loader is on neither side: transport alone. The
last column is what one side of a comparison takes (weights/check.py): trainer and engines compute it at the same time.
"""

import argparse
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
import torch

from openrlhf_prefix.runtime.platform import adapter
from openrlhf_prefix.runtime.weights import buckets
from openrlhf_prefix.runtime.weights.check import fingerprint, read
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator

MODELS = {"60 MB": (12, 384, 16_000), "450 MB": (17, 896, 32_000)}  # layers, hidden size, vocabulary
PAIRS = 5


def shapes(layers: int, hidden: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Parameters of a Qwen2 with four heads to a key, tied."""
    yield "embed_tokens.weight", (vocabulary, hidden)
    for layer in range(layers):
        for name, width in (("q", hidden), ("k", hidden // 4), ("v", hidden // 4)):
            yield f"layers.{layer}.self_attn.{name}_proj.weight", (width, hidden)
            yield f"layers.{layer}.self_attn.{name}_proj.bias", (width,)
        yield f"layers.{layer}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"layers.{layer}.mlp.gate_proj.weight", (4 * hidden, hidden)
        yield f"layers.{layer}.mlp.up_proj.weight", (4 * hidden, hidden)
        yield f"layers.{layer}.mlp.down_proj.weight", (hidden, 4 * hidden)
        yield f"layers.{layer}.input_layernorm.weight", (hidden,)
        yield f"layers.{layer}.post_attention_layernorm.weight", (hidden,)
    yield "norm.weight", (hidden,)


@ray.remote(num_cpus=0, max_concurrency=1000)
class Engine:
    """Receives, and keeps what it received."""

    async def join(self, port: int, rank: int, world: int) -> None:
        self.group, self.held = GlooCommunicator("127.0.0.1", port, rank, world), {}

    async def update_weight(self, name: str, dtype: torch.dtype, shape: torch.Size, empty_cache: bool) -> None:
        weight = torch.empty(shape, dtype=dtype)
        self.group.broadcast(weight, src=0)
        self.held[name] = weight

    async def expect_weights(self, tensors: list[buckets.Tensor], limit: int) -> None:
        self.plan = buckets.plan(tensors, limit)

    async def receive_bucket(self, number: int) -> None:
        buffer = torch.empty(self.plan[number].size, dtype=torch.uint8)
        self.group.broadcast(buffer, src=0)
        self.held |= self.plan[number].unpack(buffer)

    async def take(self) -> dict[str, int]:
        """Fingerprints of what came since the last look."""
        held, self.held = self.held, {}
        return check(held)


def check(tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    return read({name: fingerprint(value) for name, value in tensors.items()})


class Trainer:
    """The sending side of both ways; `calls` counts messages to engines, `broadcasts` those of the group."""

    def __init__(self, parameters: dict[str, torch.Tensor], engines: list[Any], limit: int) -> None:
        self.parameters, self.engines, self.limit = parameters, engines, limit
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        joined = [engine.join.remote(port, 1 + n, 1 + len(engines)) for n, engine in enumerate(engines)]
        self.group = GlooCommunicator("127.0.0.1", port, 0, 1 + len(engines))
        ray.get(joined)
        tensors = [buckets.described(name, value) for name, value in parameters.items()]
        self.plan = buckets.plan(tensors, limit)
        self.calls = self.broadcasts = 0
        self._ask("expect_weights", tensors, limit)

    def _ask(self, method: str, *arguments: Any, buffer: torch.Tensor | None = None) -> None:
        answers = [getattr(engine, method).remote(*arguments) for engine in self.engines]
        self.calls += len(answers)
        if buffer is not None:
            self.group.broadcast(buffer, src=0)
            self.broadcasts += 1
        ray.get(answers)

    def by_parameter(self) -> None:
        """ActorPPOTrainer.broadcast_to_vllm of OpenRLHF 0.11.2, below ZeRO-3."""
        for number, (name, value) in enumerate(self.parameters.items(), 1):
            last = number == len(self.parameters)
            self._ask("update_weight", name, value.dtype, value.shape, last, buffer=value)

    def by_bucket(self) -> None:
        """Sender.send, below ZeRO-3."""
        for number, bucket in enumerate(self.plan):
            buffer = bucket.pack((self.parameters[one.name] for one in bucket.tensors), "cpu")
            self._ask("receive_bucket", number, buffer=buffer)


def measured(trainer: Trainer, way: Callable[[], None], expected: dict[str, int]) -> tuple[float, int, int]:
    """Seconds, calls and broadcasts of one sync whose weights all arrived."""
    trainer.calls = trainer.broadcasts = 0
    started = time.perf_counter()
    way()
    seconds = time.perf_counter() - started
    assert all(found == expected for found in ray.get([engine.take.remote() for engine in trainer.engines]))
    return seconds, trainer.calls, trainer.broadcasts


def row(model: str, count: int, pairs: int, limit: int) -> str:
    torch.manual_seed(0)
    parameters = {name: torch.randn(shape).bfloat16() for name, shape in shapes(*MODELS[model])}
    expected = check(parameters)
    size = sum(value.nbytes for value in parameters.values()) / 1e6
    engines = [Engine.remote() for _ in range(count)]
    trainer = Trainer(parameters, engines, limit)
    ways = (trainer.by_parameter, trainer.by_bucket)
    for way in ways:
        way()  # a first time, unmeasured
    ray.get([engine.take.remote() for engine in engines])
    runs = [[measured(trainer, way, expected) for way in ways] for _ in range(pairs)]
    ratio = statistics.median(ours[0] / theirs[0] for theirs, ours in runs)
    cells = []
    for number in range(2):
        _, calls, broadcasts = runs[0][number]
        cells.append(f"{calls} + {broadcasts} | {statistics.median(run[number][0] for run in runs):.3f} s")
    for engine in engines:
        ray.kill(engine)
    started = time.perf_counter()
    check(parameters)
    cells.append(f"{ratio:.2f} | {time.perf_counter() - started:.3f} s")
    return f"| {size:.0f} MB, {len(parameters)} tensors | {count} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--engines", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--bucket_mb", type=float, default=adapter.CpuPlatform.bucket_bytes / 2**20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print("| weights | engines | per parameter: calls + broadcasts | | buckets | | ratio | check |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for model in options.models:
        for count in options.engines:
            print(row(model, count, options.pairs, int(options.bucket_mb * 2**20)), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
