"""The values that a preset gives to flags the user left alone, and OpenRLHF's own names for what we have.

A flag whose default is None takes the value of the chosen preset (algorithm/presets.py). A flag of OpenRLHF that says
the same thing as one of ours is understood: --algo.advantage.estimator and --actor.loss_agg_mode.
"""

from collections.abc import Mapping

from openrlhf_prefix.algorithm.compat import BESIDE, COMPAT
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.errors import UserError

# OpenRLHF's flag -> our flag, and the name it has for each value of ours. Its own checks run on its names.
UPSTREAM = {
    "algo.advantage.estimator": (
        "hybrid.estimator",
        {
            "dr_grpo": "dr_grpo",
            "grpo": "group_norm",
            "rloo": "rloo",
            "reinforce_baseline": "reinforce_baseline",
            "dr_grpo_prefix": "dr_grpo",
            "grpo_prefix": "group_norm",
        },
    ),
    "actor.loss_agg_mode": ("hybrid.divisor", {"token-mean": "token-mean", "seq-mean": "seq-mean-token-mean"}),
}
OF_PREFIX = ("prefixed_per_group", "keep", "controller", "span")  # fields of a preset; most others are of hybrid
FAMILIES = ("teacher", "contrast", "irl")  # what fields of theirs begin with


THEIRS = {"kl": "algo.kl.init_coef"}  # fields that are the default of a flag of OpenRLHF


def flag_of(field: str) -> str:
    """The flag whose default a field of a preset is."""
    if field in THEIRS:
        return THEIRS[field]
    family, _, name = field.partition("_")
    if family in FAMILIES:
        return f"{family}.{name}"
    return f"{'prefix' if field in OF_PREFIX else 'hybrid'}.{field}"


def preset_values(explicit: Mapping[str, object]) -> dict[str, object]:
    """Values that the preset and OpenRLHF's own names give to flags the user left alone.

    Args:
        explicit: dotted name -> value of every flag that the user set, in YAML or on the command line.

    Raises:
        UserError: an OpenRLHF flag that our estimators or divisors cannot express, or two flags that disagree.
    """
    preset = PRESETS[str(explicit.get("hybrid.preset", "prefix_rft"))]
    values: dict[str, object] = {
        **{flag_of(name): value for name, value in vars(preset).items() if name not in ("source", "samples")},
        "prefix.in_entropy": False,
    }
    settled = values | dict(explicit)
    for name, value in COMPAT[str(explicit.get("prefix.compat", "paper"))].items():
        other, needed = BESIDE.get(name, (None, None))
        if other is None or str(settled[other]).lower() == str(needed).lower():
            values[name] = value
    if explicit.get("actor.policy_loss_type") == "gspo":
        values["hybrid.divisor"] = "seq-mean"
    for theirs in UPSTREAM:
        if theirs in explicit:
            values[UPSTREAM[theirs][0]] = _from_upstream(explicit, theirs)
    values = {name: value for name, value in values.items() if name not in explicit}
    ours, names = UPSTREAM["algo.advantage.estimator"]
    values["algo.advantage.estimator"] = names.get(str(explicit.get(ours, values.get(ours))))
    if str(explicit.get("rollout.n_samples_per_prompt")) == "1":
        values["algo.advantage.estimator"] = "reinforce"  # OpenRLHF has no group of one for the others
    return values


def preset_sizes(explicit: Mapping[str, object], defaults: Mapping[str, object]) -> tuple[dict[str, int], list[str]]:
    """Sizes that the preset brings whatever a config says, and the line that says so.

    Example: preset sft on a config of 16 problems x 8 samples. Eight rows of one problem would be the same
    demonstration; a step keeps its 128 rows as 128 problems x 1.
    """
    name = str(explicit.get("hybrid.preset", "prefix_rft"))
    samples = PRESETS[name].samples
    own = {"prefix.prefixed_per_group", "hybrid.demonstration"} & explicit.keys()  # then it is another method
    key = "rollout.n_samples_per_prompt"
    given = str(explicit.get(key, defaults[key]))
    if samples is None or own or not given.isdecimal() or int(given) == samples:
        return {}, []
    problems = str(explicit.get("rollout.batch_size", ""))
    if not problems.isdecimal():
        return {key: samples}, []
    sizes = {key: samples, "rollout.batch_size": int(problems) * int(given) // samples}
    line = (
        f"preset {name} has {samples} row a problem: a step of {problems} problems x {given} samples becomes one of "
        f"{sizes['rollout.batch_size']} problems x {samples}"
    )
    return sizes, [line]


def unnamed_estimator(explicit: Mapping[str, object], flat: Mapping[str, object]) -> list[str]:
    """The line for a script that names neither method nor estimator, and means OpenRLHF's default by it."""
    if {"hybrid.preset", "hybrid.estimator", "algo.advantage.estimator"} & explicit.keys():
        return []
    preset, estimator = flat["hybrid.preset"], flat["hybrid.estimator"]
    return [
        f"no estimator is named: OpenRLHF would train a critic (gae), and here is none; preset {preset} takes "
        f"{estimator}, advantages within a group of {flat['rollout.n_samples_per_prompt']}"
    ]


def _from_upstream(explicit: Mapping[str, object], theirs: str) -> str:
    """The value of our flag that the user's value of OpenRLHF's flag `theirs` stands for."""
    ours, names = UPSTREAM[theirs]
    value = str(explicit[theirs])
    meanings = [own for own, upstream in names.items() if upstream == value]
    if not meanings:
        raise UserError(
            f"--{theirs} {value} has no definition for groups with prefixed rows: choose one of "
            f"{', '.join(dict.fromkeys(names.values()))}, or use --{ours}"
        )
    chosen = str(explicit.get(ours, meanings[0]))
    if chosen not in meanings:
        raise UserError(f"--{theirs} {value} and --{ours} {chosen} disagree: leave one of them out")
    return chosen
