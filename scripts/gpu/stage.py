"""What a stage is to the others: a function that looks at the machine and returns an Outcome, in a process of its own.

ok        it ran, and everything that it checked holds
skipped   it cannot run here, for a reason that its row says
failed    a check does not hold, or something broke; the trace is in the log
"""

import importlib
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 2**20


class Skipped(Exception):
    """The stage cannot run here; the message says why."""


class Failed(Exception):
    """A check of the stage does not hold; the message says which."""


@dataclass(frozen=True)
class Setting:
    """What all stages are given."""

    device: str  # "cuda" or "cpu"
    quick: bool  # as small as a test wants it
    work: Path  # a folder that stages share, and that goes at the end
    seconds: float  # that this stage has

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


@dataclass
class Outcome:
    shows: str  # one sentence for the table
    numbers: dict[str, Any] = field(default_factory=dict)  # what it measured, by name with unit


def check(holds: bool, sentence: str) -> None:
    """Raises Failed with the sentence."""
    if not holds:
        raise Failed(sentence)


def run_here(function: str, setting: Setting, result: Path) -> None:
    """Runs the stage `package.module.function` and ends this process; the file gets its state and what it found."""
    module, _, name = function.rpartition(".")
    started = time.monotonic()
    try:
        _prepare(setting)
        outcome = getattr(importlib.import_module(module), name)(setting)
        found = {"state": "ok", "shows": outcome.shows, "numbers": outcome.numbers}
    except Skipped as reason:
        found = {"state": "skipped", "shows": str(reason)}
    except Failed as sentence:
        found = {"state": "failed", "shows": str(sentence)}
    except Exception as error:
        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        found = {"state": "failed", "shows": f"{type(error).__name__}: {first}"}
    found["seconds"] = round(time.monotonic() - started, 2)
    result.write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # not through the destructors of CUDA and DeepSpeed, which may hang


def _prepare(setting: Setting) -> None:
    """The platform, before OpenRLHF is imported, and a world of one rank."""
    from gpu import stand_ins

    stand_ins.install()
    import torch

    if setting.on_gpu and not torch.cuda.is_available():
        raise Skipped(f"PyTorch {torch.__version__} sees no GPU here")
    if not setting.on_gpu:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    from openrlhf_prefix.runtime.platform import adapter

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    os.environ |= adapter.current().engine_environment()
    adapter.current().install()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def timed(setting: Setting, run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device is done, and what `run` returns."""
    import torch

    torch.cuda.synchronize()  # the platform answers for a CPU
    started = time.perf_counter()
    value = run()
    torch.cuda.synchronize()
    return time.perf_counter() - started, value
