"""The table of methods: one row each, no branches.

A row says which rows a group has, what they are compared with, and how the loss of their tokens is built. Every field
is the default of one flag; a flag that the user sets wins over the row.
"""

from dataclasses import dataclass

ALL = -1  # prefixed_per_group: every row of a group


@dataclass(frozen=True)
class Preset:
    source: str
    prefixed_per_group: int = 1  # --prefix.prefixed_per_group: rows of a group that start from a demonstration; or ALL
    demonstration: str = "prefix"  # --hybrid.demonstration: they start from a "prefix", or are the "whole" of it
    estimator: str = "dr_grpo"  # --hybrid.estimator: algorithm/advantages.py
    baseline: str = "plain"  # --hybrid.baseline: rows that form the baseline, "all" or "plain"
    keep: float = 1.0  # --prefix.keep: share of the prefix tokens that train
    imitation: str = "policy"  # --hybrid.imitation: what prefix tokens train with, algorithm/imitation.py
    imitation_coef: float = 1.0  # --hybrid.imitation_coef: at the first step
    imitation_end: float = 1.0  # --hybrid.imitation_end: at --hybrid.imitation_steps, by a cosine
    imitation_mean: str = "policy"  # --hybrid.imitation_mean: divisor of that term, "policy" or its own "tokens"
    convex: bool = False  # --hybrid.convex: the policy's term has 1 - imitation_coef
    clip: bool = True  # --hybrid.clip: PPO-clip at all
    clip_prefix: bool = True  # --hybrid.clip_prefix: on prefix tokens too
    divisor: str = "constant"  # --hybrid.divisor: algorithm/losses.py


PRESETS = {
    "prefix_rft": Preset(source="arXiv 2507.01679, section 3 and appendix A.2", keep=0.2),
    "rft": Preset(source="Dr. GRPO, arXiv 2503.20783", prefixed_per_group=0, baseline="all", keep=0.0),
    "sft": Preset(
        source="masked negative log-likelihood of whole demonstrations",
        prefixed_per_group=ALL,
        demonstration="whole",
        baseline="all",
        imitation="nll",
        imitation_mean="tokens",
    ),
    "dft": Preset(
        source="arXiv 2508.05629",
        prefixed_per_group=ALL,
        demonstration="whole",
        baseline="all",
        imitation="dft",
        imitation_mean="tokens",
    ),
    "rft_with_sft_loss": Preset(
        source="LUFFY's baseline, arXiv 2504.14945: on-policy statistics, plus the demonstration's token mean",
        demonstration="whole",
        imitation="nll",
        imitation_mean="tokens",
        clip=False,
    ),
    "luffy": Preset(
        source="arXiv 2504.14945: the demonstration is a member of its group, p / (p + g), no clip",
        demonstration="whole",
        baseline="all",
        imitation="luffy",
        clip=False,
    ),
    "chord_mu": Preset(
        source="arXiv 2508.11408, weight 0.9 -> 0.05",
        demonstration="whole",
        imitation="nll",
        imitation_coef=0.9,
        imitation_end=0.05,
        imitation_mean="tokens",
        convex=True,
    ),
    "chord_phi": Preset(
        source="arXiv 2508.11408, constant weight 0.1",
        demonstration="whole",
        imitation="phi",
        imitation_coef=0.1,
        imitation_end=0.1,
        imitation_mean="tokens",
        convex=True,
    ),
    "trust_prefix": Preset(
        source="the trust-region weight of TRAPO, arXiv 2512.17636, on our prefixes (not its micro-groups)",
        baseline="all",
        imitation="trust",
        clip=False,
    ),
    "prefix_context": Preset(
        source="BREAD 2506.17211, POPE 2601.18779, PrefixRL 2601.18795: a prefix conditions and has no gradient",
        keep=0.0,
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
