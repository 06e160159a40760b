"""argparse as every verb has it: whole names alone, each option with its default, mistakes in one line.

A verb that needs arguments and gets none shows its help.
"""

import argparse
from typing import Any, NoReturn

from openrlhf_prefix.errors import UserError

PROGRAM = "openrlhf-prefix"


class Formatter(argparse.HelpFormatter):
    """Names the type of a value and its default."""

    def __init__(self, prog: str, width: int | None = None) -> None:
        super().__init__(prog, max_help_position=8, width=width)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return type_name(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        meaning = action.help or ""
        if action.default in (None, False, [], argparse.SUPPRESS) or not action.option_strings:
            return meaning
        return f"{meaning} (default: {written(action.default).replace('%', '%%')})".strip()


def type_name(action: argparse.Action) -> str:
    """What a flag takes, in capitals: INT, FLOAT, PATH, TEXT."""
    name = "text" if action.type in (None, str) else getattr(action.type, "__name__", "text")
    return {"boolean": "true|false"}.get(name, name.upper())


def boolean(text: str) -> bool:
    """`true` or `false`; argparse's own bool takes every non-empty text for true."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def written(value: object) -> str:
    """A value as it is written on a command line; empty where there is none."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    if value is None or value is argparse.SUPPRESS:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Parser(argparse.ArgumentParser):
    """The parser of one verb; also of the verbs below it, which argparse makes with the same class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is not None and not args and any(action.required for action in self._actions):
            self.print_help()
            self.exit()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser_of(verb: str, description: str) -> Parser:
    """The parser of a verb, by its name on the command line ("data check" for one below another)."""
    return Parser(prog=f"{PROGRAM} {verb}", description=description)
