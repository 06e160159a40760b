"""Stage 7: log-probs and entropies of 16,384 tokens over 152,064 words: memory and time of OpenRLHF's way and of ours.

Both are those of benchmarks/head.py, which models a GPU's memory and measures a CPU's; here the GPU's own allocator
counts, and entropies are compiled as OpenRLHF has them. The two have to agree, and ours must not need more memory.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from gpu.sizes import sizes
from gpu.stage import Outcome, Setting, check, timed

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "head.py"
REPEATS, GIB = 3, 2**30
CLOSE, ROUNDED = 1e-3, 0.05  # nats: on average, and of a logit whose products two kernels round apart in bf16


def run(setting: Setting) -> Outcome:
    benchmark, size = _benchmark(), sizes(setting)
    dtype = torch.bfloat16 if setting.on_gpu else torch.float32
    torch.manual_seed(6)
    given = benchmark.drawn(size.tokens, size.words, size.width, dtype, setting.device)
    with torch.no_grad():
        pairs = zip(benchmark.upstream(*given, True), benchmark.ours(*given, True), strict=True)
        distances = torch.stack([(theirs - ours).abs() for theirs, ours in pairs])
    apart, mean = float(distances.max()), float(distances.mean())
    most = ROUNDED if setting.on_gpu else CLOSE
    check(apart < most and mean < CLOSE, f"log-probs or entropies are {apart:.1e} apart, {mean:.1e} on average")
    numbers: dict[str, Any] = {"tokens": size.tokens, "words": size.words, "apart": apart, "apart_on_average": mean}
    told = []
    for name, options in benchmark.PASSES.items():
        theirs, ours = (
            measured(setting, benchmark, way, given, options) for way in (benchmark.upstream, benchmark.ours)
        )
        numbers[name] = {"upstream": theirs, "ours": ours}
        check(
            ours["GiB"] <= theirs["GiB"], f"{name}: ours takes {ours['GiB']:.2f} GiB, upstream's {theirs['GiB']:.2f}"
        )
        told.append(f"{name} {theirs['GiB']:.2f} -> {ours['GiB']:.2f} GiB, {theirs['s']:.2f} -> {ours['s']:.2f} s")
    return Outcome(f"{size.tokens:,} x {size.words:,}, upstream -> ours: " + "; ".join(told), numbers)


def measured(setting: Setting, benchmark: Any, way: Any, given: list[torch.Tensor], options: Any) -> dict[str, float]:
    """GiB that a pass holds at the most beyond its inputs, and the least seconds of some (of one on a CPU)."""
    if setting.on_gpu:
        benchmark.run(way, given, *options)  # compiles
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        benchmark.run(way, given, *options)
        most = (torch.cuda.max_memory_allocated() - held) / GIB
    else:
        most = benchmark.peak(way, given, *options)
    repeats = REPEATS if setting.on_gpu else 1
    return {
        "GiB": most,
        "s": min(timed(setting, lambda: benchmark.run(way, given, *options))[0] for _ in range(repeats)),
    }


def _benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("head_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
