"""The table of methods: one row each, no branches.

A row says which rows a group has, what they are compared with, and how the loss of their tokens is built. Every field
is the default of one flag; a flag that the user sets wins over the row.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    prefixed_per_group: int  # --prefix.prefixed_per_group: rows of a group that start from a demonstration
    estimator: str  # --hybrid.estimator: algorithm/advantages.py
    baseline: str  # --hybrid.baseline: rows that form the baseline, "all" or "plain"
    keep: float  # --prefix.keep: share of the prefix tokens that train
    clip_prefix: bool  # --hybrid.clip_prefix: PPO-clip on prefix tokens too
    divisor: str  # --hybrid.divisor: algorithm/losses.py
    source: str


PRESETS = {
    "prefix_rft": Preset(
        prefixed_per_group=1,
        estimator="dr_grpo",
        baseline="plain",
        keep=0.2,
        clip_prefix=True,
        divisor="constant",
        source="arXiv 2507.01679, section 3 and appendix A.2",
    ),
    "rft": Preset(
        prefixed_per_group=0,
        estimator="dr_grpo",
        baseline="all",
        keep=0.0,
        clip_prefix=True,
        divisor="constant",
        source="Dr. GRPO, arXiv 2503.20783",
    ),
}

# --prefix.compat: values of flags where the authors' code differs from the paper's text; docs/official_code.md says
# why each is not the default.
COMPAT: dict[str, dict[str, object]] = {
    "paper": {},
    "official": {
        "hybrid.estimator": "dr_grpo_prefix",  # the continuation is a group of its own and is not centred
        "actor.dual_clip": 3.0,
        "actor.entropy_coef": 0.001,
        "prefix.in_entropy": True,
        "prefix.stop_before_answer": False,  # a prefix may hold all but the last token, the answer included
    },
}
