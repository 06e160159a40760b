"""The ways to compute one optimizer step, and the table of how far each is from the reference."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from openrlhf_prefix.runtime.audit.exactness.batch import (
    BAND,
    BUDGET,
    CLIP_HIGH,
    CLIP_LOW,
    DUAL_CLIP,
    STEP_ROWS,
    TEACHER_CLAMP,
    TEMPERATURE,
    Terms,
)

TOKENS_PER_MICRO_BATCH = 64  # of dynamic batching; the longest row has 43


@dataclass(frozen=True)
class Layout:
    """How one step is computed; `micro` is a number of rows, or 0 for dynamic batching."""

    ranks: int = 1
    micro: int = 2
    packing: bool = False
    stage: int = 3
    offload: bool = False
    reordered: bool = False
    skipping: bool = True  # rows without a gradient leave the step
    fused: bool = True  # the head
    tied: bool = False  # to the embeddings

    def head(self) -> str:
        return ("fused" if self.fused else "plain") + ", tied" * self.tied

    def name(self) -> str:
        batching = f"static {self.micro}" if self.micro else "dynamic"
        packed = "packed" if self.packing else "padded"
        extras = " offload" * self.offload + " reordered" * self.reordered + " all rows" * (not self.skipping)
        return f"{self.ranks} rank(s), {batching}, {packed}, ZeRO-{self.stage}{extras}, head {self.head()}"


def all_layouts() -> list[Layout]:
    """Every combination with the fused head, untied; dynamic batching always packs. Then a few with the others."""
    batching = [(micro, packing) for micro in (1, 2, 4) for packing in (False, True)] + [(0, True)]
    few = itertools.product((1, 2), ((1, False), (2, True), (0, True)), (1, 2, 3))
    return [
        Layout(ranks, micro, packing, stage, offload, reordered, skipping)
        for ranks, (micro, packing), stage, offload, reordered, skipping in itertools.product(
            (1, 2), batching, (1, 2, 3), (False, True), (False, True), (False, True)
        )
    ] + [
        Layout(ranks, micro, packing, stage, skipping=False, fused=fused, tied=tied)
        for ranks, (micro, packing), stage in few
        for fused, tied in ((True, True), (False, False), (False, True))
    ]


def upstream_layouts() -> list[Layout]:
    """Those of OpenRLHF's own loop, whose head is plain and which leaves no row out."""
    ours = [layout for layout in all_layouts() if layout.fused and not layout.tied and not layout.skipping]
    return [replace(layout, fused=False) for layout in ours]


def covering(layouts: Sequence[Layout], settings: int = 3) -> list[Layout]:
    """Some of the layouts, in which all combinations of any three settings that the layouts hold still occur."""

    def combinations(layout: Layout) -> set[tuple[Any, ...]]:
        return set(itertools.combinations(vars(layout).items(), settings))

    left, chosen = set().union(*map(combinations, layouts)), []
    while left:  # greedy: the one that adds most
        chosen.append(max(layouts, key=lambda layout: len(combinations(layout) & left)))
        left -= combinations(chosen[-1])
    return chosen


def flags(layout: Layout, terms: Terms) -> dict[str, Any]:
    """The command line that a user would give for this layout and these terms."""
    values = {
        "actor.num_gpus_per_node": layout.ranks,
        "vllm.num_engines": 1,
        "rollout.batch_size": 1 if terms.on_policy else 3,  # one optimizer step, or three
        "rollout.n_samples_per_prompt": 8,
        "rollout.max_new_tokens": BUDGET,
        "rollout.temperature": TEMPERATURE,
        "train.batch_size": STEP_ROWS,
        "train.micro_batch_size": layout.micro or 1,
        "train.dynamic_batch_enable": layout.micro == 0,
        "train.max_tokens_per_gpu": TOKENS_PER_MICRO_BATCH,
        "rollout.max_tokens_per_gpu": TOKENS_PER_MICRO_BATCH,
        "ds.zero_stage": layout.stage,
        "ds.adam_offload": layout.offload,
        "ds.packing_samples": layout.packing,
        "ds.attn_implementation": "sdpa",
        "actor.eps_clip_low_high": [CLIP_LOW, CLIP_HIGH],
        "actor.dual_clip": DUAL_CLIP if terms.clip else None,
        "actor.entropy_coef": terms.entropy_coef,
        "actor.fused_head": "on" if layout.fused else "off",
        "algo.kl.use_loss": terms.kl_coef > 0,
        "algo.kl.init_coef": terms.kl_coef,
        "algo.kl.estimator": "k3",
        "hybrid.divisor": terms.divisor,
        "hybrid.imitation": terms.imitation,
        "hybrid.clip": terms.clip,
        "hybrid.imitation_mean": terms.imitation_mean,
        "hybrid.convex": terms.convex,
        "hybrid.imitation_coef": 1.0 if terms.imitation == "policy" else terms.imitation_coef,
        "teacher.clamp": TEACHER_CLAMP,
        "prefix.keep": 1.0,  # the batch brings its own selection
        "reward.remote_url": "math-verify",
    }
    if terms.correction:
        values |= {
            "algo.advantage.is_correction_level": "token",
            "algo.advantage.is_correction_mode": "mask",
            "algo.advantage.is_correction_threshold": list(BAND),
        }
    return values


def table(found: dict[Layout, float]) -> str:
    """Markdown: batching down, ZeRO stage and offload across; a cell is the worst over the orders of the rows."""
    columns = sorted({(layout.stage, layout.offload) for layout in found})
    heads = [f"ZeRO-{stage}{' offload' * offload}" for stage, offload in columns]
    lines = [f"| head | ranks | micro-batches | rows | {' | '.join(heads)} |", "| --- " * (4 + len(columns)) + "|"]
    plainest = {"stage": 0, "offload": False, "reordered": False, "skipping": True}
    for one in dict.fromkeys(replace(layout, **plainest) for layout in found):
        cells = []
        for stage, offload in columns:
            same = replace(one, stage=stage, offload=offload)
            variants = itertools.product((False, True), (False, True))
            every = [replace(same, reordered=reordered, skipping=skipping) for reordered, skipping in variants]
            values = [found[key] for key in every if key in found]
            cells.append(f"{max(values):.1e}" if values else "-")
        batching = f"{one.micro} row(s)" if one.micro else f"dynamic, {TOKENS_PER_MICRO_BATCH} tokens"
        rows = "packed" if one.packing else "padded"
        lines.append(f"| {one.head()} | {one.ranks} | {batching} | {rows} | {' | '.join(cells)} |")
    return "\n".join(lines)
