"""The `flags` verb: every flag as a page, read from the parser.

openrlhf-prefix flags > docs/flags.md
"""

import re
from collections.abc import Sequence

from openrlhf_prefix.arguments import Parser, parser_of, written
from openrlhf_prefix.settings.preset_flags import UPSTREAM
from openrlhf_prefix.settings.reference import Flag, all_flags, grouped

HEAD = """# Flags

<!-- Made by `openrlhf-prefix flags > docs/flags.md`; a test fails when it is stale. -->

Flags are given on the command line (`--prefix.keep 0.2`) or in a YAML file (`prefix: {keep: 0.2}`, or
`prefix.keep: 0.2`); the command line wins. `openrlhf-prefix train --help prefix` shows one group. A default is that of
a run that sets nothing, with preset `prefix_rft`; the last column says which presets have another
([50-methods.md](50-methods.md)). A flag that is set wins over the preset.

Editors with a YAML language server complete and check a file by the schema that its first line names, as those in
`configs/` do; `openrlhf-prefix schema > schema.json` writes it. Shells complete verbs and flags by what
`openrlhf-prefix completion bash` (or `zsh`) prints; its `--help` says where that goes.
"""
CHANGED = """
## Defaults of OpenRLHF that differ here

| flag | OpenRLHF | here |
| --- | --- | --- |
"""
THEIRS = """
## OpenRLHF's flags

Those of its `train_ppo_ray`, with its own checks, and the defaults that a run has here. Also refused, each with a
sentence that says why: estimators without a group, `gspo` and agents (`train.agent_func_path`) with prefixed rows,
rollout batches that do not divide into optimizer steps, and `ds.grad_accum_dtype fp32` below ZeRO-3.
"""


def parser() -> Parser:
    return parser_of("flags", "All flags as a page: openrlhf-prefix flags > docs/flags.md")


def main(argv: Sequence[str]) -> None:
    parser().parse_args(argv)
    print(page(all_flags()), end="")


def page(known: Sequence[Flag]) -> str:
    """The whole page: our flags, OpenRLHF's defaults that differ, OpenRLHF's flags."""
    lines = [HEAD.rstrip("\n")]
    for title, members in grouped(flag for flag in known if flag.ours).items():
        lines += [f"\n## {title}: {members[0].about}\n"]
        lines += ["| flag | default | meaning | other defaults |", "| --- " * 4 + "|"]
        lines += [_row(flag.name, _code(flag.shown), _meaning(flag), _moved(flag)) for flag in members]
    changed = [flag for flag in known if flag.changed]
    lines += [CHANGED.rstrip("\n")]
    lines += [_row(flag.name, _code(written(flag.action.default)), _code(flag.shown)) for flag in changed]
    lines += [THEIRS.rstrip("\n")]
    for title, members in grouped(flag for flag in known if not flag.ours).items():
        lines += [f"\n### {title}\n", "| flag | default | meaning |", "| --- " * 3 + "|"]
        lines += [_row(flag.name, _code(flag.shown), _theirs(flag)) for flag in members]
    return "\n".join(lines) + "\n"


def _row(name: str, *cells: str) -> str:
    return f"| {' | '.join([f'`--{name}`', *cells])} |"


def _code(value: str) -> str:
    """A value; words that stand for one stay words."""
    return f"`{value}`" if re.fullmatch(r"\S+|[-\d. ]+", value) else value


def _meaning(flag: Flag) -> str:
    """What it means, and its choices. A bar would end the cell."""
    choices = ", ".join(f"`{choice}`" for choice in flag.action.choices or ())
    return ": ".join(filter(None, [flag.meaning.rstrip(".").replace("|", "\\|"), choices]))


def _theirs(flag: Flag) -> str:
    """The meaning of a flag of OpenRLHF's; the few whose default a preset or --prefix.compat moves say so."""
    moved = "" if flag.name in UPSTREAM else _moved(flag)
    return f"{_meaning(flag)} (other defaults: {moved})" if moved else _meaning(flag)


def _moved(flag: Flag) -> str:
    """Other defaults, each with what has it: `1.0` sft, dft."""
    by_value: dict[str, list[str]] = {}
    for of, value in flag.moved.items():
        by_value.setdefault(written(value), []).append(of)
    return "; ".join(f"`{value}` {', '.join(of)}" for value, of in by_value.items())
