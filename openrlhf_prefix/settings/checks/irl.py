"""A reward that is learnt needs pairs and a group to compare in, and is no verdict: nothing can ask who was right."""

from openrlhf_prefix.settings.checks.facts import Facts, Rule


def _no_group(a: Facts) -> bool:
    return a.hybrid.demonstration != "whole" or a.prefixed != 1 or a.group < 3


# What asks which rows are right, or for another reward, and whether it is on.
VERDICTS = {
    "prefix.controller {a.prefix.controller}": lambda a: a.watches,
    "hybrid.sampled {a.hybrid.sampled}": lambda a: a.hybrid.sampled != "advantage",
    "hybrid.rescue {a.hybrid.rescue}": lambda a: a.hybrid.rescue != "none",
    "teacher.on {a.teacher.on}": lambda a: a.taught and a.teacher.on != "all",
    "contrast.rule {a.contrast.rule}": lambda a: a.contrasts,
    "algo.dynamic_filtering_enable": lambda a: a.algo.dynamic_filtering_enable,
    "reward.model_name_or_path": lambda a: a.reward.model_name_or_path,
}


def _asks(said: str) -> Rule:
    asks = VERDICTS[said]
    return (
        lambda a: a.learns_reward and asks(a),
        f"{said} asks for a reward that is given, and irl.lr {{a.irl.lr}} learns one: leave one of them out",
    )


TABLE: list[Rule] = [
    (
        lambda a: a.irl.lr < 0,
        "irl.lr is {a.irl.lr}: give a number above 0, or 0 for rewards that are given",
    ),
    (
        lambda a: a.learns_reward and _no_group(a),
        "irl.lr {a.irl.lr} learns a reward from one whole demonstration and the own samples of its group, which it "
        "compares: set hybrid.demonstration to whole, prefix.prefixed_per_group to 1 and rollout.n_samples_per_prompt "
        "to 3 or more",
    ),
    (
        lambda a: a.learns_reward and (a.ds.ring_attn_size > 1 or a.ds.tensor_parallel_size > 1),
        "irl.lr {a.irl.lr} compares the hidden states of whole rows, and ds.ring_attn_size and "
        "ds.tensor_parallel_size cut them: set both to 1",
    ),
    *map(_asks, VERDICTS),
]
