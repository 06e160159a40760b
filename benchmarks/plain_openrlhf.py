"""Plain OpenRLHF 0.11.2 on our platform adapter: its own classes, loops and weight sync, beside ours in step.py.

    python benchmarks/plain_openrlhf.py TIMES FLAGS       TIMES: file for a JSON line a step; FLAGS: JSON, dotted names

What it needs to run without CUDA is the adapter's, and a worker that takes one parameter after the other from gloo.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from openrlhf_prefix.runtime.platform import adapter

chosen = adapter.choose()
chosen.install()
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import ray  # noqa: E402
from openrlhf.cli import train_ppo_ray  # noqa: E402
from openrlhf.trainer import ppo_trainer  # noqa: E402
from openrlhf.trainer.ray import vllm_engine  # noqa: E402
from openrlhf.trainer.ray.ppo_actor import PolicyModelActor  # noqa: E402

from openrlhf_prefix.runtime.driver.launch import worker_environment  # noqa: E402
from openrlhf_prefix.runtime.seams import undecorated  # noqa: E402
from openrlhf_prefix.runtime.weights.check import EngineFingerprints  # noqa: E402
from openrlhf_prefix.runtime.weights.sync import GlooCommunicator  # noqa: E402
from openrlhf_prefix.settings import config, upstream_cli  # noqa: E402

TIMES = "PLAIN_OPENRLHF_TIMES"


class OneByOne(EngineFingerprints):
    """OpenRLHF's WorkerWrap over gloo; a CPU engine reloads all at once after the last parameter."""

    def init_process_group(self, host: str, port: int, offset: int, size: int, *args: Any, **kwargs: Any) -> None:
        adapter.current().patch_engine()
        self._sync_group = GlooCommunicator(host, port, torch.distributed.get_rank() + offset, size)
        self._received: list[tuple[str, torch.Tensor]] = []

    def update_weight(self, name: str, dtype: torch.dtype, shape: torch.Size, empty_cache: bool = False) -> None:
        weight = torch.empty(shape, dtype=dtype)
        self._sync_group.broadcast(weight, src=0)
        self._received.append((name, weight))
        if empty_cache:
            self.model_runner.reload_weights(weights_iterator=iter(self._received))
            self._received = []


class PlainPolicy(undecorated(PolicyModelActor)):
    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        adapter.current().patch_trainer()
        super().init_model_from_pretrained(*args, **kwargs)


class PlainRollout(undecorated(vllm_engine.RolloutRayActor)):
    async def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = adapter.current().engine_options()
        kwargs |= {"worker_extension_cls": "plain_openrlhf.OneByOne", **options}
        await super().__init__(*args, **kwargs)


class PlainTrainer(undecorated(ppo_trainer.PPOTrainer)):
    def save_logs_and_checkpoints(self, step: int, logs: dict | None = None, states: Any = None) -> None:
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        with Path(os.environ[TIMES]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def main() -> None:
    times, flags = sys.argv[1], json.loads(sys.argv[2])
    args = upstream_cli.check(config.parse(upstream_cli.build_parser(), flags))
    chosen.adjust(args)
    args.run = SimpleNamespace(verbose=False, phase_seconds=3600.0)
    variables = {**worker_environment(args, chosen), TIMES: times}
    del args.run
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": variables, **chosen.runtime_env()},
        **chosen.ray_options(args.actor.num_gpus_per_node),
    )
    train_ppo_ray.PolicyModelActor = ray.remote(num_gpus=1)(PlainPolicy)
    vllm_engine.RolloutRayActor = ray.remote(PlainRollout)
    ppo_trainer.PPOTrainer = ray.remote(PlainTrainer)
    train_ppo_ray.train(args)
    ray.shutdown()


if __name__ == "__main__":
    import plain_openrlhf  # by its own name, so that Ray's workers import the classes from here

    plain_openrlhf.main()
