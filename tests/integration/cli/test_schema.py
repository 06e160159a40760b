"""The JSON schemas: up to date, valid for every shipped file, and never more generous than the parser."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

pytest.importorskip("openrlhf")

import jsonschema  # noqa: E402
from referencing import Registry, Resource  # noqa: E402

from openrlhf_prefix.comparison.plan import Plan, Task  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402
from openrlhf_prefix.settings import config  # noqa: E402
from openrlhf_prefix.settings.reference import all_flags  # noqa: E402
from openrlhf_prefix.settings.resolve import CONTROL, build_parser  # noqa: E402
from openrlhf_prefix.settings.schema import of_compare, of_train, text  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted(CONFIGS.rglob("*.yaml"))
FLAGS = [flag for flag in all_flags() if flag.name not in CONTROL]
TRAIN = of_train(all_flags())
REGISTRY = Registry().with_resource("schema.json", Resource.from_contents(TRAIN))


def faults(content: object, schema: dict = TRAIN) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(schema, registry=REGISTRY).iter_errors(content)]


def test_the_committed_schemas_are_up_to_date() -> None:
    assert (CONFIGS / "schema.json").read_text() == text(TRAIN), "openrlhf-prefix schema > configs/schema.json"
    assert (CONFIGS / "compare-schema.json").read_text() == text(of_compare()), "openrlhf-prefix schema compare > ..."
    for schema in (TRAIN, of_compare()):
        jsonschema.Draft7Validator.check_schema(schema)
        assert json.loads(text(schema)) == schema


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_config_names_its_schema_and_is_valid_by_it(path: Path) -> None:
    start, found = path.read_text().splitlines()[0].split("$schema=")
    assert start == "# yaml-language-server: "
    schema = json.loads((path.parent / found).read_text())
    assert faults(yaml.safe_load(path.read_text()), schema) == []


@pytest.mark.parametrize(
    "content",
    [
        {"actor.adam.lr": 1e-6},
        {"actor": {"adam": {"lr": "1e-6"}}},  # what YAML reads 1e-6 as
        {"actor.adam": {"lr": 1}, "actor": {"muon.lr": 0.1}},
        {"actor": {"adam.betas": [0.9, 0.95]}},
        {"prefix": {"shape": None, "stages": [0.5]}, "train": None},
        {"ds.lora.target_modules": "all-linear"},
        {"ckpt.max_mem": "inf", "base": "../paper.yaml", "hybrid.convex": False},
    ],
)
def test_every_form_of_a_flag_is_valid(content: dict) -> None:
    assert faults(content) == []


@pytest.mark.parametrize(
    "content",
    [
        {"actor.adam.lrr": 1e-6},
        {"actor": {"adam": {"lrr": 1e-6}}},
        {"actor": {"base": "x.yaml"}},
        {"prefix.shape": "square"},
        {"train.batch_size": "many"},
        {"train.batch_size": 1.5},
        {"train.colocate_all": "yes"},
        {"actor.adam.lr": "1.2.3"},
        {"actor.adam.betas": [0.9]},
        {"actor.adam.lr": [1]},
        {"dry_run": True},
        {"base": ["a.yaml"]},
    ],
)
def test_what_train_refuses_is_no_valid_file(content: dict) -> None:
    assert faults(content)


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_what_the_schema_takes_the_parser_takes(flag) -> None:
    """Of values of every kind, also the default, in the flat and in the nested form."""
    default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
    default = "inf" if default == float("inf") else default
    choices = list(flag.action.choices or ())
    parser, taken = build_parser(), 0
    for value in [default, *choices, None, True, False, 3, -0.5, "2e-4", "text", ["text"], [1, 2], {"x": 1}]:
        nested: object = value
        for part in reversed(flag.name.split(".")):
            nested = {part: nested}
        valid = not faults({flag.name: value})
        assert valid == (not faults(nested))
        if valid:
            taken += 1
            settings = config.flatten({flag.name: value})
            config.check_names(settings, parser)
            config.parse(parser, settings)
    assert taken > 1 and not faults({flag.name: default})


def test_a_comparison_has_the_fields_that_its_reader_knows() -> None:
    schema = of_compare()
    assert set(schema["properties"]) == {entry.name for entry in fields(Plan)}
    assert set(schema["properties"]["tasks"]["additionalProperties"]["properties"]) == {e.name for e in fields(Task)}
    content = yaml.safe_load((CONFIGS / "compare.yaml").read_text())
    assert faults({**content, "seed": 1}, schema) and faults({**content, "flags": {"prefix.kep": 1}}, schema)
    assert faults({name: value for name, value in content.items() if name != "seeds"}, schema)


def test_the_parser_refuses_what_it_should(tmp_path: Path) -> None:
    """The test above would hold for a parser that takes everything."""
    with pytest.raises(UserError):
        config.parse(build_parser(), {"train.batch_size": "many"})
