"""The table of methods: one row each, no branches.

A row says which rows a group has, what they are compared with, and how the loss of their tokens is built. Every field
is the default of one flag; a flag that the user sets wins over the row.
"""

from dataclasses import dataclass

ALL = -1  # prefixed_per_group: every row of a group
HALF = -1  # sft_steps, teacher_steps: half of the steps of the run
TENTH = -1  # sft_validate: a tenth of the supervised steps


@dataclass(frozen=True)
class Preset:
    source: str
    prefixed_per_group: int = 1  # --prefix.prefixed_per_group: rows of a group that start from a demonstration; or ALL
    demonstration: str = "prefix"  # --hybrid.demonstration: they start from a "prefix", or are the "whole" of it
    estimator: str = "dr_grpo"  # --hybrid.estimator: algorithm/advantages.py
    baseline: str = "plain"  # --hybrid.baseline: rows that form the baseline, "all" or "plain"
    sampled: str = (
        "advantage"  # --hybrid.sampled: what sampled tokens are weighted with, "advantage", "likelihood" or "right"
    )
    keep: float = 1.0  # --prefix.keep: share of the prefix tokens that train
    imitation: str = "policy"  # --hybrid.imitation: what prefix tokens train with, algorithm/imitation.py
    imitation_coef: float = 1.0  # --hybrid.imitation_coef: at the first step
    imitation_end: float = 1.0  # --hybrid.imitation_end: at --hybrid.imitation_steps, by a cosine
    imitation_mean: str = "policy"  # --hybrid.imitation_mean: one divisor with the "policy", or each its own "tokens"
    imitation_gap: bool = False  # --hybrid.imitation_gap: times the share of controller gap
    convex: bool = False  # --hybrid.convex: the policy's term has 1 - imitation_coef
    clip: bool = True  # --hybrid.clip: PPO-clip at all
    clip_prefix: bool = True  # --hybrid.clip_prefix: on prefix tokens too
    divisor: str = "constant"  # --hybrid.divisor: algorithm/losses.py
    controller: str = "schedule"  # --prefix.controller: what decides on the length, algorithm/controllers.py
    span: float = 1.0  # --prefix.span: share of the run over which the schedule moves
    rescue: str = "none"  # --hybrid.rescue: what becomes of groups that failed: "none", "replace" or "buffer"
    samples: int | None = None  # --rollout.n_samples_per_prompt, whatever a config says; None: that flag's own value
    sft_steps: int = 0  # --hybrid.sft_steps: steps on demonstrations alone before the first rollout; or HALF
    sft_imitation: str = "nll"  # --hybrid.sft_imitation: what their tokens train with
    sft_validate: int = 0  # --hybrid.sft_validate: steps between two looks at the loss that ends them; TENTH; 0: none
    teacher_model: str | None = None  # --teacher.model: "self"; None: the user names a folder
    teacher_context: str = "plain"  # --teacher.context: its prompt is the policy's, or shows a "demonstration"
    teacher_coef: float = 0.0  # --teacher.coef: weight of its term at the first step; 0: the method has no teacher
    teacher_end: float | None = None  # --teacher.end: at its last step, linearly; None: it stays
    teacher_steps: int = 0  # --teacher.steps: after them it is withdrawn; 0: never; or HALF
    teacher_on: str = "all"  # --teacher.on: algorithm/teacher.py
    teacher_instead: bool = False  # --teacher.instead: rows that it acts on have no reward advantage
    contrast_rule: str = "none"  # --contrast.rule: a demonstration against own samples, algorithm/contrast.py
    contrast_tau: float = 1.0  # --contrast.tau: of the partition
    contrast_gamma: float = 0.85  # --contrast.gamma: of the partition
    contrast_stages: int = 0  # --contrast.stages: an older policy samples, that of a stage's start; 0: the current one
    irl_lr: float = 0.0  # --irl.lr: rewards are learnt from demonstrations, algorithm/irl.py; 0: they are given
    kl: float = 0.0  # --algo.kl.init_coef: of the penalty for leaving the policy before the run; 0: it is not kept


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
        samples=1,
    ),
    "sft_f": Preset(
        source="after arXiv 2507.00018, a derivation: likelihood under an f-divergence from the policy before the run",
        prefixed_per_group=ALL,
        demonstration="whole",
        baseline="all",
        imitation="f_pearson",
        imitation_mean="tokens",
        samples=1,
    ),
    "dft": Preset(
        source="arXiv 2508.05629",
        prefixed_per_group=ALL,
        demonstration="whole",
        baseline="all",
        imitation="dft",
        imitation_mean="tokens",
        samples=1,
    ),
    "self_sft": Preset(
        source="after arXiv 2506.23508 and 2510.18874: likelihood of own right samples, which every step draws anew",
        prefixed_per_group=0,
        baseline="all",
        keep=0.0,
        sampled="right",
        clip=False,
    ),
    "sft_then_rft": Preset(
        source="arXiv 2604.23747: supervised steps to the smallest validation loss (2512.11470), then rft",
        prefixed_per_group=0,
        baseline="all",
        keep=0.0,
        sft_steps=HALF,
        sft_validate=TENTH,
    ),
    "prefix_after_sft": Preset(
        source="ours: supervised steps to the smallest validation loss, then prefix_rft where the plain rows failed",
        keep=0.2,
        controller="on_failure",
        sft_steps=HALF,
        sft_validate=TENTH,
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
    "srft": Preset(
        source="arXiv 2506.19767: entropy damps imitation and amplifies right samples; the demonstration is a member",
        demonstration="whole",
        estimator="grpo",
        baseline="all",
        sampled="likelihood",
        imitation="srft",
        imitation_mean="tokens",
        clip=False,
        divisor="token-mean",
    ),
    "uft": Preset(
        source="arXiv 2505.16984: one hint for the whole group, binomial length, likelihood weight 0.001",
        prefixed_per_group=ALL,
        estimator="grpo",
        baseline="all",
        imitation="nll",
        imitation_coef=0.001,
        imitation_end=0.001,
        imitation_mean="tokens",
        divisor="token-mean",
        controller="binomial",
        span=0.6,  # 300 of 500 steps
    ),
    "relift": Preset(
        source="arXiv 2506.07527: problems without a right sample wait in a buffer for a supervised step of their own",
        prefixed_per_group=0,
        baseline="all",
        imitation="nll",
        imitation_mean="tokens",
        clip=False,
        rescue="buffer",
    ),
    "hpt": Preset(
        source="arXiv 2509.04419: the demonstration takes the place of a group with too few right samples",
        prefixed_per_group=0,
        baseline="all",
        imitation="nll",
        imitation_mean="tokens",
        clip=False,
        rescue="replace",
    ),
    "chord_mu": Preset(
        source="arXiv 2508.11408, weight 0.9 -> 0.05",
        demonstration="whole",
        estimator="grpo",
        divisor="token-mean",
        imitation="nll",
        imitation_coef=0.9,
        imitation_end=0.05,
        imitation_mean="tokens",
        convex=True,
    ),
    "chord_phi": Preset(
        source="arXiv 2508.11408, constant weight 0.1",
        demonstration="whole",
        estimator="grpo",
        divisor="token-mean",
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
    "opd": Preset(
        source="on-policy distillation, as in arXiv 2609.04108: the teacher's log-ratio on sampled tokens alone",
        prefixed_per_group=0,
        baseline="all",
        keep=0.0,
        teacher_coef=1.0,
        teacher_instead=True,
    ),
    "opd_then_rft": Preset(
        source="arXiv 2609.04108: opd for the first steps, then rft",
        prefixed_per_group=0,
        baseline="all",
        keep=0.0,
        teacher_coef=1.0,
        teacher_steps=HALF,
        teacher_instead=True,
    ),
    "kdrl": Preset(
        source="the annealed KDRL of arXiv 2609.04108: advantage + b d, b 0.2 -> 0.002",
        prefixed_per_group=0,
        estimator="grpo",
        baseline="all",
        keep=0.0,
        divisor="token-mean",
        teacher_coef=0.2,
        teacher_end=0.002,
    ),
    "hdpo": Preset(
        source="after arXiv 2603.23871: where all rows failed, the policy that sees the demonstration is the teacher",
        prefixed_per_group=0,
        estimator="grpo",
        baseline="all",
        keep=0.0,
        divisor="token-mean",
        teacher_model="self",
        teacher_context="demonstration",
        teacher_coef=0.2,
        teacher_on="failed",
    ),
    "opsd": Preset(
        source="after arXiv 2601.18734 and 2601.19897: opd by the policy itself, which sees the demonstration",
        prefixed_per_group=0,
        baseline="all",
        keep=0.0,
        teacher_model="self",
        teacher_context="demonstration",
        teacher_coef=1.0,
        teacher_instead=True,
    ),
    "disc_ft": Preset(
        source="DFT of arXiv 2502.18679, on samples of the running policy: a likelihood among answers",
        demonstration="whole",
        baseline="all",
        keep=0.0,
        contrast_rule="partition",
    ),
    "disc_ft2": Preset(
        source="DFT2 of arXiv 2502.18679: the same of token means, without a reference model",
        demonstration="whole",
        baseline="all",
        keep=0.0,
        contrast_rule="partition_mean",
        contrast_tau=0.3,
        contrast_gamma=0.9,
    ),
    "irft": Preset(
        source="IRFT of arXiv 2405.17888: DPO of demonstration and own sample, by the policy of the stage's start",
        demonstration="whole",
        baseline="all",
        keep=0.0,
        samples=2,
        contrast_rule="pair",
        contrast_stages=5,
    ),
    "sspo": Preset(
        source="after arXiv 2410.05255, for answers with a verifier, a derivation: irft by the policy before the run, "
        "and a right sample is not pushed down",
        demonstration="whole",
        baseline="all",
        keep=0.0,
        samples=2,
        contrast_rule="pair_wrong",
        contrast_stages=1,
    ),
    "irl_reward": Preset(
        source="RFT of arXiv 2405.17888, on features of the policy: for problems without a verifier, a reward that "
        "tells demonstrations from own samples",
        demonstration="whole",
        estimator="grpo",
        keep=0.0,
        divisor="token-mean",
        irl_lr=1.0,
        kl=0.05,
    ),
}
