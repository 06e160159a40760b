"""The help of the verbs that take the flags of `train`: all of them, or one group."""

import shutil
import textwrap
from collections.abc import Iterable

from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.arguments import Parser
from openrlhf_prefix.settings.reference import Flag, about, all_flags, grouped

INDENT = " " * 8


def help_text(own: Parser, topic: str | None = None) -> str:
    """What a verb is for, its own options, our flags, then OpenRLHF's; or the flags of one group alone.

    Args:
        own: parser of the verb without the flags.
        topic: a group, the start of names, or a name; UserError where there is none.
    """
    known = all_flags()
    if topic is not None:
        return "\n".join(_sections(about(topic, known)))
    options = own.format_help().partition("options:\n")[2]
    families = dict.fromkeys(flag.family for flag in known if "." in flag.name)
    return "\n".join(
        [
            f"usage: {own.prog} --config FILE [--any.flag value ...]",
            *_wrapped(own.description or "", ""),
            *(["", "its own options:", options.rstrip()] if len(own._actions) > 1 else []),  # noqa: SLF001, --help
            *_sections(flag for flag in known if flag.ours),
            *_sections(flag for flag in known if not flag.ours),
            "",
            *_wrapped(f"{own.prog} --help GROUP shows one group: {', '.join(families)}; or one flag.", ""),
        ]
    )


def _sections(flags: Iterable[Flag]) -> list[str]:
    lines = []
    for title, members in grouped(flags).items():
        first = members[0]
        lines += ["", f"{title}: {first.about}" if first.ours else f"{title}: OpenRLHF's"]
        for flag in members:
            lines += [f"  --{flag.name} {flag.takes}".rstrip(), *_wrapped(_described(flag), INDENT)]
    return lines


def _described(flag: Flag) -> str:
    of = " in preset prefix_rft" if set(flag.moved) & set(PRESETS) else ""
    default = f"(default: {flag.shown}{of})" if flag.shown else ""
    return f"{flag.meaning} {default}".strip()


def _wrapped(sentence: str, indent: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, 119)
    return textwrap.wrap(sentence, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
