"""Configuration: a YAML file is a list of flags, and the command line wins.

    defaults  <-  YAML file  <-  command line           one schema: OpenRLHF's argparse parser and our groups

Keys are flag names, nested or dotted ({actor: {adam: {lr: 1e-6}}} or actor.adam.lr: 1e-6). The merged settings are
rendered to an argument list that argparse parses, so its types and choices hold for YAML as well (parser.set_defaults
would skip the choices). Names are checked first: argparse accepts abbreviations, so a misspelt key could set another.

    base: ../paper.yaml     that file's flags too, found from this one; keys here win, null goes back to the default
"""

import argparse
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from openrlhf_prefix.errors import UserError

SECRETS = ("logger.wandb.key",)
FROM_ENVIRONMENT = "env"  # value of a secret that is read from the environment
# OpenRLHF's names for flags of ours; a dumped file holds ours alone, so that it parses to the same flags again.
ALIASES = ("actor.loss_agg_mode", "algo.advantage.estimator")
BASE = "base"


def read_yaml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Dotted flag names and values of a YAML file and of the file that it is based on.

    Args:
        above: files that led here by their `base`; a file among them is refused.
    """
    path = Path(os.path.normpath(path))
    if path.absolute() in above:
        raise UserError(f"{path} is, by way of `base`, based on itself: take one of the `base` lines out")
    flat = flatten(load_mapping(path))
    if BASE not in flat:
        return flat
    base = flat.pop(BASE)
    if not isinstance(base, str):
        raise UserError(f"{path}: base is {base!r}: name one YAML file, relative to this one")
    return {**read_yaml(path.parent / base, (*above, path.absolute())), **flat}


class _EveryKeyOnce(yaml.SafeLoader):
    """YAML as it is, but for a key that a mapping gives twice: PyYAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"{twice} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds, as it stands; nothing is an empty mapping. UserError where it is something else."""
    if not path.is_file():
        raise UserError(f"there is no config file {str(path)!r} here ({Path.cwd()}): check --config")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _EveryKeyOnce)  # noqa: S506, a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a mapping of names to values")
    return content


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{a: {b: 1}} and {a.b: 1} both become {"a.b": 1}; a key given both ways is refused."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        for dotted, leaf in (flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}).items():
            if dotted in flat:
                raise UserError(f"{dotted} is given twice in one file: keep one of them")
            flat[dotted] = leaf
    return flat


def read_argv(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """Dotted flag names of a command line and their values, still as text (lists where a flag takes several).

    A switch may be given bare (--train.colocate_all) or with true/false, which turns off one that the file turns on.
    """
    actions = flag_actions(parser)
    settings: dict[str, Any] = {}
    position = 0
    while position < len(argv):
        token = argv[position]
        position += 1
        if not token.startswith("--"):
            raise UserError(f"{token!r} stands where a flag was expected: flags start with --")
        name, equals, inline = token[2:].partition("=")
        action = require_known(name, actions, "flag --")
        values = [inline] if equals else []
        while position < len(argv) and not argv[position].startswith("--"):
            values.append(argv[position])
            position += 1
        settings[name] = _value_of(name, action, values)
    return settings


def _value_of(name: str, action: argparse.Action, values: list[str]) -> Any:
    if is_switch(action):
        if values not in ([], ["true"], ["false"]):
            raise UserError(f"--{name} is a switch: give it bare, or with true or false, not {' '.join(values)!r}")
        return values != ["false"]
    if action.nargs is not None:
        return values
    if len(values) != 1:
        raise UserError(f"--{name} takes one value, got {len(values)}: {' '.join(values) or 'nothing'}")
    return values[0]


def flag_actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Name (without the dashes) -> action, for every flag of the parser."""
    actions = {}
    for action in parser._actions:  # noqa: SLF001, argparse has no public way to list its flags
        for option in action.option_strings:
            if option.startswith("--"):
                actions[option[2:]] = action
    return actions


def is_switch(action: argparse.Action) -> bool:
    return action.nargs == 0


def require_known(name: str, actions: Mapping[str, argparse.Action], what: str) -> argparse.Action:
    """The action of flag `name`; UserError with the nearest name where there is none."""
    if name in actions:
        return actions[name]
    near = difflib.get_close_matches(name, actions, n=1, cutoff=0.5)
    near = near or [known for known in actions if known.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    hint = f"did you mean {near[0]}?" if near else "--help lists them all"
    raise UserError(f"unknown {what}{name}: {hint}")


def check_names(settings: Mapping[str, Any], parser: argparse.ArgumentParser) -> None:
    """Refuses the first unknown name, and a value outside a flag's choices."""
    actions = flag_actions(parser)
    for name, value in settings.items():
        action = require_known(name, actions, "key ")
        if action.choices is not None and value is not None and _text(value) not in map(str, action.choices):
            raise UserError(f"{name} is {value!r}: choose one of {', '.join(map(str, action.choices))}")


def render(settings: Mapping[str, Any], actions: Mapping[str, argparse.Action]) -> list[str]:
    """The argument list that says the same as `settings`; None leaves a flag at its default."""
    argv: list[str] = []
    for name, value in settings.items():
        action = require_known(name, actions, "key ")
        if value is None or (isinstance(value, str) and action.nargs is not None and value == action.default):
            continue  # a list flag whose default is a word (lora.target_modules) would come back as a list
        if is_switch(action):
            argv += _render_switch(name, value)
        elif isinstance(value, (list, tuple)):
            if action.nargs is None:
                raise UserError(f"{name} takes one value, not a list: {value}")
            argv += [f"--{name}", *(_text(item) for item in value)]
        else:
            argv.append(f"--{name}={_text(value)}" if action.nargs is None else f"--{name}")
            argv += [] if action.nargs is None else [_text(value)]
    return argv


def _render_switch(name: str, value: Any) -> list[str]:
    if not isinstance(value, bool):
        raise UserError(f"{name} is a switch: write true or false, not {value!r}")
    return [f"--{name}"] if value else []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(parser: argparse.ArgumentParser, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Typed values of all flags, defaults included: dotted name -> value."""

    def refuse(message: str) -> None:
        raise UserError(message)

    parser.error = refuse  # type: ignore[method-assign, assignment]  # argparse would print its whole usage
    parser.allow_abbrev = False
    return vars(parser.parse_args(render(settings, flag_actions(parser))))


def nested(flat: Mapping[str, Any]) -> SimpleNamespace:
    """{"a.b": 1} as an object with .a.b, the form in which OpenRLHF hands its flags around."""
    root = SimpleNamespace()
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                setattr(node, parent, SimpleNamespace())
            node = getattr(node, parent)
        setattr(node, leaf, value)
    return root


def flatten_namespace(node: SimpleNamespace, prefix: str = "") -> dict[str, Any]:
    """The opposite of `nested`."""
    flat: dict[str, Any] = {}
    for name, value in vars(node).items():
        if isinstance(value, SimpleNamespace):
            flat.update(flatten_namespace(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def dump(flat: Mapping[str, Any]) -> str:
    """YAML that parses to the same flags again. Left out: secrets, aliases, and flags without a value."""
    plain = {}
    for name, value in sorted(flat.items()):
        secret = name in SECRETS and value != FROM_ENVIRONMENT
        if value is None or secret or name in ALIASES:
            continue
        value = list(value) if isinstance(value, tuple) else value
        plain[name] = str(value) if value in (float("inf"), float("-inf")) else value
    return yaml.safe_dump(plain, sort_keys=True, allow_unicode=True)
