r"""Memory and time of log-probs and entropies from hidden states: OpenRLHF's own functions beside ours.

    python benchmarks/head.py --hidden 256 --pairs 3

For T tokens and V words in fp32 on this machine, the two by turns; the median of the ratios counts. Seconds are those
of one core, which other work on the machine does not prolong by much. Memory is the most that is alive at once of what
either makes, inputs aside, by PyTorch's own storages. Where OpenRLHF's would not fit, ours is counted on tensors
without data. So is a GPU at H 3584 in bf16, and OpenRLHF's there is

    6 T V bytes without a gradient    logits in bf16, and in fp32
    10 T V in training                logits in fp32, which its output holds, their gradient, and the same in bf16
    12 T V with entropies             logits in fp32, a gradient of the log-probs and one of the entropies

Then seconds of `torch.nn.functional.linear_cross_entropy` in chunks, which has no entropies, beside ours. Prints the
tables of docs/fused-head.md.
"""

import argparse
import os
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compute_entropy would be compiled

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openrlhf_prefix.algorithm.fused_head import linear_log_probs
from openrlhf_prefix.runtime.platform import adapter

TOKENS, VOCABULARIES = (2_048, 8_192, 16_384), (32_000, 152_064)
PASSES = {"no gradient, entropies": (False, True), "training": (True, False), "training, entropies": (True, True)}
PER_LOGIT = dict(zip(PASSES, (6, 10, 12), strict=True))  # bytes
MEASURED = 30  # bytes per logit that OpenRLHF's way needs on a CPU at the most
TEMPERATURE, GIB = 0.9, 2**30
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], tuple[torch.Tensor, torch.Tensor | None]]


class Peak(TorchDispatchMode):
    """The most bytes alive at once of storages made in the block."""

    def __init__(self, given: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in given}
        self.alive = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.known:
                storage = leaf.untyped_storage()
                self.known.add(storage._cdata)
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.alive)
        return result

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def upstream(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What openrlhf.models.Actor.forward does with a model's logits."""
    from openrlhf.models.utils import compute_entropy, log_probs_from_logits

    logits = torch.nn.functional.linear(hidden, weight).to(torch.float32).div_(TEMPERATURE)
    entropies = compute_entropy(logits) if entropy else None
    return log_probs_from_logits(logits, labels), entropies


def ours(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return linear_log_probs(hidden, weight, labels, TEMPERATURE, entropy)


def of_torch(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    options = torch.nn.LinearCrossEntropyOptions()
    nll = torch.nn.functional.linear_cross_entropy(
        hidden / TEMPERATURE, weight, labels, reduction="none", options=options
    )
    return -nll, None


def run(way: Way, given: list[torch.Tensor], gradient: bool, entropy: bool) -> None:
    """A pass, with the backward of a loss that weighs every token differently."""
    with torch.set_grad_enabled(gradient):
        log_probs, entropies = way(*given, entropy)
        if gradient:
            loss = (log_probs * torch.linspace(-1, 1, len(log_probs), device=log_probs.device)).sum()
            (loss if entropies is None else loss - 0.01 * entropies.sum()).backward()
    for tensor in given:
        tensor.grad = None


def drawn(tokens: int, vocabulary: int, hidden: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    shapes = ((tokens, hidden), (vocabulary, hidden))
    states, weight = (torch.randn(*shape, dtype=dtype, device=device) for shape in shapes)
    labels = torch.randint(vocabulary, (tokens,), device=device)
    return [states.requires_grad_(), weight.mul_(hidden**-0.5).requires_grad_(), labels]


def peak(way: Way, given: list[torch.Tensor], gradient: bool, entropy: bool) -> float:
    """GiB."""
    with Peak(given) as seen:
        run(way, given, gradient, entropy)
    return seen.most / GIB


def seconds(way: Way, given: list[torch.Tensor], gradient: bool, entropy: bool) -> float:
    started = time.process_time()
    run(way, given, gradient, entropy)
    return time.process_time() - started


def available() -> int:
    """Bytes of memory that a new process can have."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def timed(other: Way, given: list[torch.Tensor], name: str, pairs: int) -> str:
    """Cells: seconds of the other and of ours, and the median of their ratios."""
    times = [tuple(seconds(way, given, *PASSES[name]) for way in (other, ours)) for _ in range(pairs)]
    theirs, here = (statistics.median(column) for column in zip(*times, strict=True))
    return f"{theirs:.2f} | {here:.2f} | {statistics.median(second / first for first, second in times):.2f}"


def measured(tokens: int, vocabulary: int, hidden: int, name: str, pairs: int) -> str:
    """Cells: seconds of both, their ratio, GiB of both, their ratio."""
    if available() < MEASURED * tokens * vocabulary:
        given = drawn(tokens, vocabulary, hidden, torch.float32, "meta")
        return f"- | - | - | - | {peak(ours, given, *PASSES[name]):.2f} | -"
    given = drawn(tokens, vocabulary, hidden, torch.float32, "cpu")
    theirs, here = (peak(way, given, *PASSES[name]) for way in (upstream, ours))  # and both are warm
    return f"{timed(upstream, given, name, pairs)} | {theirs:.2f} | {here:.2f} | {theirs / here:.1f}"


def modelled(tokens: int, vocabulary: int, name: str) -> str:
    """Cells: GiB of OpenRLHF's and ours at H 3584 in bf16, and their ratio."""
    theirs = PER_LOGIT[name] * tokens * vocabulary / GIB
    here = peak(ours, drawn(tokens, vocabulary, 3584, torch.bfloat16, "meta"), *PASSES[name])
    return f"{theirs:.1f} | {here:.2f} | {theirs / here:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=256, help="H of what is measured")
    parser.add_argument("--tokens", type=int, nargs="*", default=TOKENS)
    parser.add_argument("--vocabularies", type=int, nargs="*", default=VOCABULARIES)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    adapter.choose().install()
    adapter.current().patch_trainer()
    columns = "T | V | pass | OpenRLHF s | ours s | ratio | OpenRLHF GiB | ours GiB | times less | model: OpenRLHF GiB"
    print(f"| {columns} | ours GiB | times less |\n{'| --- ' * 12}|")
    for vocabulary in options.vocabularies:
        for tokens in options.tokens:
            for name in PASSES:
                cells = measured(tokens, vocabulary, options.hidden, name, options.pairs)
                print(f"| {tokens:,} | {vocabulary:,} | {name} | {cells} | {modelled(tokens, vocabulary, name)} |")
    print(f"\n| T | V | pass | torch s | ours s | ratio |\n{'| --- ' * 6}|")
    tokens = min(options.tokens)
    for vocabulary in options.vocabularies:
        given = drawn(tokens, vocabulary, options.hidden, torch.float32, "cpu")
        print(f"| {tokens:,} | {vocabulary:,} | training | {timed(of_torch, given, 'training', options.pairs)} |")


if __name__ == "__main__":
    main()
