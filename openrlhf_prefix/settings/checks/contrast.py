"""A demonstration that is held against own samples has them in its group and in its optimizer step."""

from openrlhf_prefix.algorithm.contrast import PAIRS
from openrlhf_prefix.settings.checks.facts import Facts, Rule
from openrlhf_prefix.settings.checks.method import FILTERED


def _idle(a: Facts) -> bool:
    return not a.contrasts and (a.contrast.stages or a.contrast.snapshots != 1)


def _no_pair(a: Facts) -> bool:
    return a.hybrid.demonstration != "whole" or a.prefixed != 1 or a.group < 2


TABLE: list[Rule] = [
    (
        lambda a: a.contrast.tau <= 0 or not 0 < a.contrast.gamma <= 1 or a.contrast.cap <= 0 or a.contrast.beta <= 0,
        "contrast.tau, contrast.cap and contrast.beta are above 0, and contrast.gamma is above 0 and at most 1",
    ),
    (
        lambda a: a.contrast.stages < 0 or a.contrast.snapshots < 1,
        "contrast.stages is 0 or more, and contrast.snapshots 1 or more",
    ),
    (
        _idle,
        "contrast.stages and contrast.snapshots have no effect without contrast.rule: give one, or a preset with it "
        "(disc_ft, disc_ft2, irft, sspo)",
    ),
    (
        lambda a: a.contrasts and _no_pair(a),
        "contrast.rule {a.contrast.rule} holds one whole demonstration against the own samples of its group: set "
        "hybrid.demonstration to whole, prefix.prefixed_per_group to 1 and rollout.n_samples_per_prompt to 2 or more",
    ),
    (
        lambda a: a.contrasts and (a.rows != a.train.batch_size or a.train.max_epochs != 1),
        "contrast.rule {a.contrast.rule} weighs a demonstration and its own samples by the policy that their step "
        "trains: make a rollout step of {a.rows} rows one optimizer step, with train.batch_size {a.rows} and "
        "train.max_epochs 1",
    ),
    (
        lambda a: a.contrast.rule in PAIRS and not a.contrast.stages,
        "contrast.rule {a.contrast.rule} compares with an older policy, whose samples it takes: set contrast.stages "
        "to 1 (the policy before the run) or more",
    ),
    (
        lambda a: a.contrast.snapshots > max(a.contrast.stages, 1),
        "contrast.snapshots {a.contrast.snapshots} is more than contrast.stages {a.contrast.stages}, each of which "
        "keeps one: raise contrast.stages",
    ),
    (
        lambda a: a.contrasts and a.hybrid.rescue != "none",
        "hybrid.rescue {a.hybrid.rescue} puts in demonstrations without own samples, which contrast.rule "
        "{a.contrast.rule} cannot weigh: leave one of them out",
    ),
    (
        lambda a: a.contrast.stages and a.hybrid.sft_steps,
        "contrast.stages begin with the run, and so do supervised steps: set hybrid.sft_steps to 0, and start from "
        "the export of a supervised run",
    ),
    (
        lambda a: a.contrasts and a.algo.dynamic_filtering_enable,
        FILTERED.replace("{what}", "contrast.rule {a.contrast.rule}"),
    ),
]
