"""The flags of a method fit together: groups and their baseline, demonstrations, controllers, supervised steps."""

from openrlhf_prefix.algorithm.advantages import BATCH_NORMALIZED
from openrlhf_prefix.algorithm.controllers import Gap
from openrlhf_prefix.algorithm.imitation import POLICY, trains_unseen
from openrlhf_prefix.algorithm.presets import HALF, TENTH
from openrlhf_prefix.settings.checks.facts import Facts, Rule


def _weight(name: str) -> Rule:
    def wrong(a: Facts) -> bool:
        value = getattr(a.hybrid, name)
        return value < 0 or (a.hybrid.convex and value > 1)

    return wrong, f"hybrid.{name} is {{a.hybrid.{name}}}: give 0 or more, and at most 1 with hybrid.convex"


GROUPS: list[Rule] = [
    (
        lambda a: a.group == 1 and not a.alone and not a.taught_alone and a.hybrid.sampled == "advantage",
        "rollout.n_samples_per_prompt is 1, and preset {a.hybrid.preset} compares the answers to one problem with "
        "each other: give 2 or more (8 is the paper's)",
    ),
    (
        lambda a: a.hybrid.baseline == "plain" and a.prefixed == a.group,
        "hybrid.baseline plain needs a plain row in every group, but all {a.group} are prefixed: lower "
        "prefix.prefixed_per_group, or set hybrid.baseline to all",
    ),
    (
        lambda a: a.hybrid.estimator.endswith("_prefix") and a.hybrid.baseline != "plain",
        "hybrid.estimator {a.hybrid.estimator} needs hybrid.baseline plain",
    ),
    (
        lambda a: a.hybrid.sampled != "advantage" and a.hybrid.estimator == BATCH_NORMALIZED,
        f"hybrid.sampled {{a.hybrid.sampled}} leaves no advantages to normalise: choose another hybrid.estimator than "
        f"{BATCH_NORMALIZED}",
    ),
]

DEMONSTRATIONS: list[Rule] = [
    (
        lambda a: a.alone and a.group > 1,
        "every row of a group of {a.group} would be a whole demonstration, the same one {a.group} times: set "
        "rollout.n_samples_per_prompt to 1",
    ),
    (
        lambda a: a.trains_whole and a.prefix.long_demonstrations == "truncate",
        "prefix.long_demonstrations truncate leaves demonstrations without their end, and preset {a.hybrid.preset} "
        "trains them to it: use drop",
    ),
    (
        lambda a: a.imitates and a.prefix.keep not in (0.0, 1.0),
        "hybrid.imitation {a.hybrid.imitation} trains all demonstration tokens, prefix.keep {a.prefix.keep} a share "
        "of them: set prefix.keep to 1",
    ),
    (
        lambda a: (
            a.prefix.controller != "schedule"
            and (not a.prefixed or (a.hybrid.demonstration == "whole" and not a.hybrid.imitation_gap))
        ),
        "prefix.controller {a.prefix.controller} decides on the length of prefixes, and preset {a.hybrid.preset} has "
        "none: leave it out",
    ),
    (
        lambda a: a.prefix.trust and (a.hybrid.demonstration == "whole" or not a.prefixed),
        "prefix.trust {a.prefix.trust} looks at what becomes of prefixes, and preset {a.hybrid.preset} has none: "
        "leave it out",
    ),
    (
        lambda a: a.prefix.controller in ("on_failure", "gap") and a.prefixed == a.group,
        "prefix.controller {a.prefix.controller} looks at the plain rows of a group, but all are prefixed: lower "
        "prefix.prefixed_per_group",
    ),
    (
        lambda a: a.controller.spread and a.prefixed < 2,
        "prefix.controller {a.prefix.controller} gives the prefixed rows of a group different lengths, and there is "
        "{a.prefixed}: raise prefix.prefixed_per_group",
    ),
    (
        lambda a: a.hybrid.imitation_gap and (not issubclass(a.controller, Gap) or a.hybrid.imitation == POLICY),
        "hybrid.imitation_gap multiplies the weight of the imitation term by the share of prefix.controller gap: set "
        "both (here {a.prefix.controller}, with hybrid.imitation {a.hybrid.imitation})",
    ),
]

SUPERVISED: list[Rule] = [
    (
        lambda a: a.preset.sft_steps and not a.hybrid.sft_steps,
        "preset {a.hybrid.preset} begins with supervised steps, and hybrid.sft_steps 0 leaves none: give 1 or more, "
        "or use preset rft",
    ),
    (
        lambda a: a.hybrid.sft_steps < HALF,
        "hybrid.sft_steps is {a.hybrid.sft_steps}: give 0 or more, or -1 for half of the run",
    ),
    (
        lambda a: a.hybrid.sft_validate < TENTH or (a.hybrid.sft_lr is not None and a.hybrid.sft_lr <= 0),
        "hybrid.sft_validate is 0 (never), -1 (a tenth of the stage) or more, and hybrid.sft_lr above 0",
    ),
    (
        lambda a: (
            (a.hybrid.sft_lr is not None or a.hybrid.sft_validate or a.hybrid.sft_imitation != "nll")
            and not a.hybrid.sft_steps
        ),
        "hybrid.sft_lr, sft_imitation and sft_validate need a supervised stage: set hybrid.sft_steps",
    ),
    (
        lambda a: not trains_unseen(a.hybrid.sft_imitation),
        "hybrid.sft_imitation {a.hybrid.sft_imitation} weighs a demonstration by its advantage, by the policy's "
        "entropy on it before the update or by a reference model, and a supervised step has none of them: choose one "
        "of {a.sft_imitations}",
    ),
    (
        lambda a: a.hybrid.rescue != "none" and not a.imitates,
        "hybrid.rescue {a.hybrid.rescue} puts demonstrations in, which belong to no group and have no advantage for "
        "hybrid.imitation {a.hybrid.imitation}: train them with one of {a.imitations}",
    ),
    (
        lambda a: a.hybrid.rescue != "none" and a.prefixed,
        "hybrid.rescue {a.hybrid.rescue} is for groups of plain rows: set prefix.prefixed_per_group to 0",
    ),
    (
        lambda a: a.hybrid.rescue != "none" and (a.weighs_by_entropy or a.weighs_by_reference),
        "hybrid.imitation {a.hybrid.imitation} weighs a demonstration by the policy's entropy on it before the "
        "update or by a reference model, and one that hybrid.rescue {a.hybrid.rescue} puts in has neither: leave "
        "hybrid.rescue out, or train with nll or dft",
    ),
    (
        lambda a: a.hybrid.buffer is not None and a.hybrid.rescue != "buffer",
        "hybrid.buffer is the size of hybrid.rescue buffer, and that is {a.hybrid.rescue}: leave one of them out",
    ),
    (
        lambda a: a.hybrid.rescue == "buffer" and (a.buffer < 1 or a.buffer % a.train.batch_size),
        "hybrid.buffer {a.buffer} is no multiple of train.batch_size {a.train.batch_size}: an optimizer step would be "
        "cut short",
    ),
    (
        lambda a: not 0 <= a.hybrid.gate < a.group,
        "hybrid.gate is {a.hybrid.gate}: right samples of {a.group}, from 0 to one less",
    ),
    (
        lambda a: (a.hybrid.rescue != "none" or a.hybrid.sft_steps) and a.prefix.in_kl,
        "prefix.in_kl asks for the reference model on demonstrations that were not rolled out: leave it out with "
        "hybrid.rescue and hybrid.sft_steps",
    ),
]

FILTERED = (
    "algo.dynamic_filtering_enable drops the groups that failed before {what} sees them: leave one of the two out"
)

OTHER: list[Rule] = [
    (
        lambda a: a.algo.dynamic_filtering_enable and a.reward.model_name_or_path and not a.reward.remote_url,
        "algo.dynamic_filtering_enable looks at the rewards of rollouts, which reward.model_name_or_path gives only "
        "after it: leave it out, or give reward.remote_url",
    ),
    (
        lambda a: a.algo.dynamic_filtering_enable and a.hybrid.rescue != "none",
        FILTERED.replace("{what}", "rescue {a.hybrid.rescue}"),
    ),
    (
        lambda a: a.algo.dynamic_filtering_enable and a.watches,
        FILTERED.replace("{what}", "prefix.controller {a.prefix.controller}"),
    ),
    (
        lambda a: a.algo.dynamic_filtering_enable and a.prefix.trust,
        FILTERED.replace("{what}", "prefix.trust"),
    ),
    (
        lambda a: a.hybrid.f_beta < 0,
        "hybrid.f_beta is {a.hybrid.f_beta}: give 0 or more (0 is plain likelihood)",
    ),
    _weight("imitation_coef"),
    _weight("imitation_end"),
    (
        lambda a: a.hybrid.imitation_steps is not None and a.hybrid.imitation_steps < 1,
        "hybrid.imitation_steps is {a.hybrid.imitation_steps}: give at least 1 step",
    ),
]

TABLE = [*GROUPS, *DEMONSTRATIONS, *SUPERVISED, *OTHER]
