"""Stage 8: the parameter change of an optimizer step on this device, against the one worked out row by row in fp32.

The rows, the reference and the training are those of `openrlhf-prefix exactness` (runtime/audit/exactness/), one rank,
plain descent. In fp32 every layout has to be within that verb's tolerance. In bf16 every layout is wrong by rounding:
at the most as much as PyTorch's own mixed precision is on the same rows, one by one.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from gpu.stage import Outcome, Setting, check

LAYOUTS = (
    {"micro": 2, "packing": False, "stage": 3},
    {"micro": 0, "packing": True, "stage": 3},
    {"micro": 4, "packing": False, "stage": 2},
    {"micro": 1, "packing": True, "stage": 1, "reordered": True},
)


def run(setting: Setting) -> Outcome:
    from openrlhf_prefix.runtime.audit.exactness import batch, layouts, measure
    from openrlhf_prefix.runtime.platform import adapter

    adapter.current().patch_trainer()
    model = setting.work / "exact"
    batch.make_model(model)
    terms = batch.Terms(kl_coef=0.0, entropy_coef=None, correction=False, clip=False)
    chosen = [layouts.Layout(**layout) for layout in LAYOUTS[: 2 if setting.quick else None]]
    exact = differences(model, chosen, terms, bf16=False)
    rounded = differences(model, chosen, terms, bf16=True)
    mixed = plain_mixed(model, terms)
    worst, of_bf16 = max(exact.values()), max(rounded.values())
    check(worst <= measure.TOLERANCE, f"in fp32 a layout is {worst:.1e} from the reference")
    check(of_bf16 <= mixed, f"in bf16 a layout is {of_bf16:.1e} from fp32, mixed precision {mixed:.1e}")
    return Outcome(
        f"{len(chosen)} layouts: fp32 to {worst:.0e}; bf16 {min(rounded.values()):.1e} to {of_bf16:.1e}, "
        f"PyTorch's mixed precision {mixed:.1e}",
        {"fp32": exact, "bf16": rounded, "mixed_precision": mixed},
    )


def differences(model: Path, chosen: list[Any], terms: Any, bf16: bool) -> dict[str, float]:
    """|change - reference| / |reference| of all parameters, for each layout."""
    from openrlhf_prefix.runtime.audit.exactness import batch, training

    rows, before, wanted = reference(model, terms, bf16)
    found = {}
    for layout in chosen:
        ordered = batch.shuffled_within_steps(rows, seed=3) if layout.reordered else rows
        after = training.train(layout, model, ordered, terms, upstream=False, bf16=bf16)
        found[layout.name()] = relative({name: after[name] - before[name] for name in wanted}, wanted)
    return found


def reference(model: Path, terms: Any, rounded: bool, mixed: bool = False) -> tuple[Any, Any, Any]:
    """Rows, parameters before, and the change that the rows must cause; `rounded`: from weights as bf16 has them."""
    from openrlhf_prefix.runtime.audit.exactness import batch

    def load() -> Any:
        loaded = batch.load_model(model)
        return loaded.bfloat16().float() if rounded else loaded

    rows = batch.make_rows(load())
    before = {name: value.detach().clone() for name, value in load().named_parameters()}
    # Without its cache, which would keep the weights of the first step.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if mixed else nullcontext():
        return rows, before, batch.reference_change(load(), rows, terms)


def plain_mixed(model: Path, terms: Any) -> float:
    """The error of the row-by-row reference itself under autocast."""
    return relative(reference(model, terms, True, mixed=True)[2], reference(model, terms, True)[2])


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    apart = sum((found[name] - wanted[name]).float().square().sum() for name in wanted).sqrt()
    return float(apart / sum(value.float().square().sum() for value in wanted.values()).sqrt())
