"""The `schema` verb: a JSON schema of the YAML files, which editors check and complete by.

    openrlhf-prefix schema > configs/schema.json
    openrlhf-prefix schema compare > configs/compare-schema.json

A flag is valid under its dotted name and at every nesting of it: the object of "actor" has the keys adam.lr and adam,
that of "actor.adam" has lr. The file of a comparison holds flags by a reference to the first schema, beside it.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

from openrlhf_prefix.arguments import Parser, boolean, parser_of
from openrlhf_prefix.settings.config import BASE, is_switch
from openrlhf_prefix.settings.reference import Flag, all_flags
from openrlhf_prefix.settings.resolve import CONTROL

Schema = dict[str, Any]
DRAFT = {"$schema": "http://json-schema.org/draft-07/schema#"}  # the one that editors know
# As YAML reads 1e-6, or inf: a text that the flag takes.
NUMBER = r"^[-+]?(inf|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)$"
KINDS = ("train", "compare")


def parser() -> Parser:
    parser = parser_of("schema", "JSON schema of the YAML files, for editors: of a run's, or of a comparison's.")
    parser.add_argument("kind", nargs="?", choices=KINDS, default="train", metavar="KIND", help=", ".join(KINDS))
    return parser


def main(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    print(text(of_train(all_flags()) if options.kind == "train" else of_compare()), end="")


def text(schema: Schema) -> str:
    """JSON, a definition or property on a line."""
    outer = ",\n".join(f"{json.dumps(key)}: {_lines(key, value)}" for key, value in schema.items())
    return f"{{\n{outer}\n}}\n"


def _lines(key: str, value: Any) -> str:
    if key not in ("definitions", "properties"):
        return json.dumps(value)
    inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(content)}" for name, content in value.items())
    return f"{{\n{inner}\n}}"


def of_train(known: Iterable[Flag]) -> Schema:
    """Of a run's file: "base", and flags in every form."""
    inside = [flag for flag in known if flag.name not in CONTROL]
    base = {"type": "string", "description": "YAML file whose flags are taken over, found from this one"}
    definitions: dict[str, Schema] = {flag.name: _value(flag) for flag in inside}
    for path in dict.fromkeys(["", *(parent for flag in inside for parent in _parents(flag.name))]):
        definitions[_object(path)] = _flags_below(path, [flag.name for flag in inside])
    definitions[_object("")]["properties"] = {BASE: base} | definitions[_object("")]["properties"]
    whole = [{"$ref": f"#/definitions/{_object('')}"}]
    return {**DRAFT, "title": "Flags of openrlhf-prefix train", "allOf": whole, "definitions": definitions}


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _object(path: str) -> str:
    """Name of the definition of the flags below a path. A slash would have to be escaped in a reference."""
    return f"{path}.*" if path else "*"


def _flags_below(path: str, names: Sequence[str]) -> Schema:
    """The object of all flags whose names begin with `path`: of the rest of each, and of the rest's own beginnings."""
    start = f"{path}." if path else ""
    properties: dict[str, Schema] = {}
    for name in names:
        if name.startswith(start):
            for parent in _parents(name):
                if parent.startswith(start):
                    properties[parent[len(start) :]] = {"$ref": f"#/definitions/{_object(parent)}"}
            properties[name[len(start) :]] = {"$ref": f"#/definitions/{name}"}
    return {"type": ["object", "null"], "additionalProperties": False, "properties": dict(sorted(properties.items()))}


def _value(flag: Flag) -> Schema:
    """What a flag takes; null leaves it at its default."""
    action = flag.action
    one = _one(action)
    schema: Schema = {"anyOf": [one, {"type": "null"}]}
    if action.nargs is not None and not is_switch(action):
        count = {"minItems": action.nargs, "maxItems": action.nargs} if isinstance(action.nargs, int) else {}
        alone = [] if isinstance(action.nargs, int) else [one]
        schema = {"anyOf": [{"type": "array", "items": one, **count}, *alone, {"type": "null"}]}
    description = f"{flag.meaning} (default: {flag.shown})" if flag.shown else flag.meaning
    default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
    known = default is not None and default != float("inf") and flag.shown and "<" not in flag.shown
    return {"description": description, **({"default": default} if known else {}), **schema}


def _one(action: argparse.Action) -> Schema:
    """One value of a flag."""
    if is_switch(action) or action.type is boolean:
        return {"type": "boolean"}
    if action.choices:
        return {"enum": list(action.choices)}
    if action.type is int:
        return {"type": "integer"}
    if action.type is float:
        return {"type": ["number", "string"], "pattern": NUMBER}
    return {"type": ["string", "number"]}


def of_compare() -> Schema:
    """Of the file of a comparison (comparison/plan.py)."""
    flags, names = {"$ref": "schema.json"}, {"type": "array", "items": {"type": "string"}}
    rates = {"type": "array", "items": _RATE, "minItems": 1}
    task = _mapping_of(
        {"tune": _TEXT, "sets": _any({"type": "string"}), "flags": flags, "methods": names, "learning_rates": rates},
        required=("tune", "sets"),
    )
    fields: dict[str, Schema] = {
        "train": {**_TEXT, "description": "config file of every training"},
        "tasks": {**_any(task), "description": "families of problems, each with its base model"},
        "methods": {**_any(flags), "description": "label -> flags; hybrid.preset is the label where it is not given"},
        "learning_rates": {**rates, "description": "the grid of every method; with one alone nothing is tuned"},
        "seeds": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "tuning_seed": {"type": "integer", "default": 0},
        "flags": {**flags, "description": "of every training"},
        "tuning_flags": {**flags, "description": "of tuning runs, beside those"},
        "samples": {"type": "integer", "minimum": 1, "default": 64, "description": "responses to every problem"},
        "ks": {"type": "array", "items": {"type": "integer", "minimum": 1}, "default": [1, 4, 16, 64]},
        "problems": {"type": ["integer", "null"], "description": "of every held-out set, the first ones; null: all"},
        "panels": {**_any(names), "description": "title -> methods of one panel of the picture"},
        "minutes": {"type": "number", "default": 120.0, "description": "a command that takes longer is ended"},
        "few_seeds": {"type": "boolean", "default": False, "description": "fewer than three: a try, no result"},
    }
    required = ("train", "tasks", "methods", "learning_rates", "seeds")
    return {**DRAFT, "title": "A comparison of openrlhf-prefix", **_mapping_of(fields, required)}


_TEXT: Schema = {"type": "string"}
_RATE: Schema = {"type": ["number", "string"], "pattern": NUMBER}


def _any(values: Schema) -> Schema:
    return {"type": "object", "minProperties": 1, "additionalProperties": values}


def _mapping_of(fields: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}
