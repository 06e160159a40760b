"""Every flag as data, read from the parser: what `--help`, docs/flags.md and the JSON schema say of it.

A default is that of a run which sets nothing: OpenRLHF's, over it ours, over it the preset's.
"""

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from openrlhf_prefix.algorithm.compat import COMPAT
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.arguments import type_name, written
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import preset_flags
from openrlhf_prefix.settings.config import is_switch
from openrlhf_prefix.settings.resolve import DEFAULTS, FILLED, build_parser
from openrlhf_prefix.settings.upstream_flags import IDLE, REFUSED
from openrlhf_prefix.settings.upstream_words import MEANINGS

PRESET = "hybrid.preset"
SAMPLES = "rollout.n_samples_per_prompt"
TIME = re.compile(r"\d{4}T\d\d:\d\d")  # of this moment, in OpenRLHF's default of logger.wandb.run_name


@dataclass(frozen=True)
class Flag:
    """One flag of `train`."""

    name: str  # dotted, without the dashes
    action: argparse.Action
    title: str  # of its group
    about: str  # of its group
    ours: bool
    default: Any
    moved: dict[str, Any] = field(default_factory=dict)  # preset, or "prefix.compat official" -> its other default

    @cached_property
    def family(self) -> str:
        """The first part of its name."""
        return self.name.partition(".")[0]

    @property
    def changed(self) -> bool:
        """Whether it is OpenRLHF's, and its default is not."""
        return not self.ours and (self.name in FILLED or written(self.default) != written(self.action.default))

    @property
    def meaning(self) -> str:
        known = MEANINGS.get(self.name, self.action.help or "")
        if self.name in preset_flags.UPSTREAM:
            known = f"another name of --{preset_flags.UPSTREAM[self.name][0]}"
        if is_switch(self.action) and self.action.dest != self.name:
            known = f"sets {self.action.dest} to {written(self.action.const)}"
        for reasons, verdict in ((IDLE, "no effect here"), (REFUSED, "refused")):
            if self.name in reasons:
                known = "; ".join(filter(None, [known.rstrip("."), f"{verdict}: {reasons[self.name]}"]))
        return " ".join(known.split())

    @property
    def shown(self) -> str:
        """Its default, as it would be written; words where it follows from others; empty where there is none."""
        if self.name in FILLED:
            return FILLED[self.name]
        if is_switch(self.action) and self.action.dest != self.name:
            return ""
        return TIME.sub("<time>", written(self.default))

    @property
    def takes(self) -> str:
        """What follows its name: nothing after a switch, else choices or a type, once for each value."""
        action = self.action
        if is_switch(action):
            return ""
        one = "|".join(map(str, action.choices)) if action.choices else type_name(action)
        return " ".join([one] * action.nargs) if isinstance(action.nargs, int) else one + (" ..." * bool(action.nargs))


def all_flags() -> list[Flag]:
    """Ours first, in their groups, then OpenRLHF's, by the first part of their names."""
    parser = build_parser()
    usual = preset_flags.preset_values({})
    others: dict[str, dict[str, object]] = {
        name: preset_flags.preset_values({PRESET: name}) for name in PRESETS if name != parser.get_default(PRESET)
    }
    for name, values in others.items():
        values |= {SAMPLES: PRESETS[name].samples} if PRESETS[name].samples else {}
    others |= {f"prefix.compat {name}": dict(COMPAT[name]) for name in COMPAT if COMPAT[name]}
    found = []
    for group in parser._action_groups:  # noqa: SLF001, argparse has no public way to list its groups
        for action in group._group_actions:  # noqa: SLF001
            name = action.option_strings[-1].removeprefix("--")
            if name == "help":
                continue
            default = {**DEFAULTS, **usual}.get(name, action.default)
            moved = {of: values[name] for of, values in others.items() if values.get(name, default) != default}
            ours = group.title != "options"
            title, about = (
                (group.title or "", group.description or "")
                if ours
                else (name.rpartition(".")[0].partition(".")[0] or "other", "")
            )
            found.append(Flag(name, action, title, about, ours, default, moved))
    return [flag for flag in found if flag.ours] + sorted(
        (flag for flag in found if not flag.ours), key=lambda flag: ("." not in flag.name, flag.family)
    )


def grouped(chosen: Iterable[Flag]) -> dict[str, list[Flag]]:
    """Title -> its flags, in their order."""
    groups: dict[str, list[Flag]] = {}
    for flag in chosen:
        groups.setdefault(flag.title, []).append(flag)
    return groups


def about(topic: str, known: Sequence[Flag]) -> list[Flag]:
    """The flags of a group, ours or OpenRLHF's, by its title, the start of their names, or the name of one.

    Example: "prefix", "supervised stage", "actor.adam", "prefix.keep". Raises UserError with the nearest one.
    """
    topic = topic.removeprefix("--").rstrip(".")
    found = [flag for flag in known if flag.title == topic or f"{flag.name}.".startswith(f"{topic}.")]
    if found:
        return found
    parts = [flag.name.split(".") for flag in known]
    names = {".".join(part[: end + 1]) for part in parts for end in range(len(part))} | {flag.title for flag in known}
    families = ", ".join(dict.fromkeys(flag.family for flag in known if "." in flag.name))
    near = difflib.get_close_matches(topic, sorted(names), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {families}"
    raise UserError(f"--help: there is no group or flag {topic!r}: {hint}")
