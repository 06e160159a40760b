"""YAML and command line become one list of flags: names checked first, the command line wins, a dump says the same."""

import argparse
from pathlib import Path

import pytest
import yaml

from openrlhf_prefix.arguments import boolean
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import config


def make_parser() -> argparse.ArgumentParser:
    """One flag of every kind that OpenRLHF's parser has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--actor.adam.lr", type=float, default=1e-6)
    parser.add_argument("--actor.adam.betas", type=float, nargs=2, default=(0.9, 0.95))
    parser.add_argument("--actor.name", type=str, default=None)
    parser.add_argument("--actor.loss_agg_mode", type=str, default="token-mean")
    parser.add_argument("--train.batch_size", type=int, default=128)
    parser.add_argument("--train.colocate_all", action="store_true", default=False)
    parser.add_argument("--ds.zero_stage", type=int, choices=[0, 1, 2, 3], default=3)
    parser.add_argument("--prefix.shape", choices=["cosine", "linear"], default="cosine")
    parser.add_argument("--hybrid.clip_prefix", type=boolean, default=None)
    parser.add_argument("--eval.steps", type=float, default=-1)
    parser.add_argument("--reward.urls", type=str, nargs="+", default=None)
    parser.add_argument("--lora.modules", type=str, nargs="*", default="all-linear")
    parser.add_argument("--logger.wandb.key", type=str, default=None)
    return parser


def settings_of(tmp_path: Path, text: str) -> dict:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return config.read_yaml(path)


def parsed(tmp_path: Path, text: str = "", argv: tuple[str, ...] = ()) -> dict:
    """The way of resolve.py: file, then command line, names checked, argparse last."""
    parser = make_parser()
    settings = {**settings_of(tmp_path, text), **config.read_argv(parser, argv)}
    config.check_names(settings, parser)
    return config.parse(parser, settings)


def refused(tmp_path: Path, text: str = "", argv: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        parsed(tmp_path, text, argv)
    return str(caught.value)


def test_nested_dotted_and_mixed_keys_are_the_same_flags(tmp_path: Path) -> None:
    expected = {"actor.adam.lr": 0.5, "actor.name": "x", "train.batch_size": 8}
    nested = "actor:\n  adam:\n    lr: 0.5\n  name: x\ntrain:\n  batch_size: 8\n"
    dotted = "actor.adam.lr: 0.5\nactor.name: x\ntrain.batch_size: 8\n"
    mixed = "actor:\n  adam.lr: 0.5\nactor.name: x\ntrain: {batch_size: 8}\n"
    assert [settings_of(tmp_path, text) for text in (nested, dotted, mixed)] == [expected] * 3


@pytest.mark.parametrize("text", ["actor: {name: x}\nactor.name: y\n", "actor:\n  adam: {lr: 1}\n  adam.lr: 2\n"])
def test_a_key_given_both_ways_is_refused(tmp_path: Path, text: str) -> None:
    assert "is given twice in one file" in refused(tmp_path, text)


def test_an_empty_file_leaves_every_default(tmp_path: Path) -> None:
    assert parsed(tmp_path, "# nothing\n") == vars(make_parser().parse_args([]))


def test_values_take_the_types_of_their_flags(tmp_path: Path) -> None:
    """PyYAML reads 2e-5 (no dot) as the text "2e-5"; argparse makes it a number all the same."""
    values = parsed(tmp_path, "actor.adam.lr: 2e-5\ntrain.batch_size: 64\nactor.name: 7\nhybrid.clip_prefix: false\n")
    assert values["actor.adam.lr"] == 2e-5 and values["train.batch_size"] == 64
    assert values["actor.name"] == "7" and values["hybrid.clip_prefix"] is False


def test_the_command_line_beats_the_file(tmp_path: Path) -> None:
    text = "train: {batch_size: 64}\nactor: {name: from-file, adam: {lr: 0.5}}\n"
    values = parsed(tmp_path, text, ("--train.batch_size", "32", "--actor.adam.lr=0.25"))
    assert (values["train.batch_size"], values["actor.adam.lr"], values["actor.name"]) == (32, 0.25, "from-file")


@pytest.mark.parametrize(("given", "expected"), [((), True), (("true",), True), (("false",), False)])
def test_a_switch_is_given_bare_or_with_true_or_false(tmp_path: Path, given: tuple, expected: bool) -> None:
    for in_file in ("true", "false"):
        values = parsed(tmp_path, f"train.colocate_all: {in_file}", ("--train.colocate_all", *given))
        assert values["train.colocate_all"] is expected


@pytest.mark.parametrize(("written", "expected"), [("true", True), ("false", False)])
def test_the_file_turns_a_switch_on_and_off(tmp_path: Path, written: str, expected: bool) -> None:
    assert parsed(tmp_path, f"train: {{colocate_all: {written}}}")["train.colocate_all"] is expected


def test_a_switch_takes_nothing_else(tmp_path: Path) -> None:
    assert "write true or false, not 1" in refused(tmp_path, "train.colocate_all: 1")
    assert "write true or false, not 'yes please'" in refused(tmp_path, "train.colocate_all: yes please")
    assert "give it bare, or with true or false" in refused(tmp_path, argv=("--train.colocate_all", "0"))


def test_a_boolean_flag_understands_false(tmp_path: Path) -> None:
    """bool("false") is True; the flag's own type is not."""
    assert parsed(tmp_path, argv=("--hybrid.clip_prefix", "false"))["hybrid.clip_prefix"] is False
    assert parsed(tmp_path, "hybrid.clip_prefix: true")["hybrid.clip_prefix"] is True
    assert "neither true nor false" in refused(tmp_path, argv=("--hybrid.clip_prefix", "no"))


def test_lists_come_from_yaml_and_from_several_words(tmp_path: Path) -> None:
    values = parsed(tmp_path, "actor.adam.betas: [0.8, 0.9]\nreward.urls: [a, b, c]\n")
    assert values["actor.adam.betas"] == [0.8, 0.9] and values["reward.urls"] == ["a", "b", "c"]
    values = parsed(tmp_path, "reward.urls: [a]", ("--reward.urls", "d", "e", "--actor.adam.betas", "0.1", "0.2"))
    assert values["actor.adam.betas"] == [0.1, 0.2] and values["reward.urls"] == ["d", "e"]


def test_lists_of_the_wrong_length_or_place_are_refused(tmp_path: Path) -> None:
    assert "takes one value, not a list: [1, 2]" in refused(tmp_path, "train.batch_size: [1, 2]")
    assert "expected 2 arguments" in refused(tmp_path, "actor.adam.betas: [0.8]")
    assert "takes one value, got 2: 1 2" in refused(tmp_path, argv=("--train.batch_size", "1", "2"))
    assert "takes one value, got 0: nothing" in refused(tmp_path, argv=("--train.batch_size",))


def test_null_leaves_a_flag_at_its_default(tmp_path: Path) -> None:
    values = parsed(tmp_path, "train.batch_size: null\nprefix.shape:\nds: {zero_stage: ~}\ntrain.colocate_all: null\n")
    assert values == vars(make_parser().parse_args([]))


@pytest.mark.parametrize("argv", [("--eval.steps", "-3.5"), ("--eval.steps=-3.5",)])
def test_negative_numbers_are_values_and_no_flags(tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert parsed(tmp_path, argv=argv)["eval.steps"] == -3.5
    assert parsed(tmp_path, "eval.steps: -3.5\nactor.adam.betas: [-1, -0.5]\n")["eval.steps"] == -3.5
    assert parsed(tmp_path, "eval.steps: -2e-3\n")["eval.steps"] == -0.002


@pytest.mark.parametrize("value", ["-x", "--actor.name", "a b", "a=b", "", "true", "#1", "\u00e9"])
def test_text_reaches_its_flag_unchanged(tmp_path: Path, value: str) -> None:
    assert parsed(tmp_path, yaml.safe_dump({"actor.name": value}))["actor.name"] == value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("actor.adam.lrr", "actor.adam.lr"),
        ("train.batchsize", "train.batch_size"),
        ("prefix.shap", "prefix.shape"),  # argparse would take it for an abbreviation
        ("zzzzzzzzzzzzzzzzzzzz.lr", "actor.adam.lr"),
    ],
)
def test_a_near_miss_is_refused_with_the_name_that_was_meant(tmp_path: Path, written: str, meant: str) -> None:
    assert refused(tmp_path, f"{written}: 1") == f"unknown key {written}: did you mean {meant}?"
    assert refused(tmp_path, argv=(f"--{written}", "1")) == f"unknown flag --{written}: did you mean {meant}?"


def test_a_name_like_no_other_is_refused_too(tmp_path: Path) -> None:
    assert refused(tmp_path, "xyzzy: 1") == "unknown key xyzzy: --help lists them all"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prefix.shape: square", "prefix.shape is 'square': choose one of cosine, linear"),
        ("ds.zero_stage: 4", "ds.zero_stage is 4: choose one of 0, 1, 2, 3"),
        ("train.batch_size: many", "invalid int value: 'many'"),
        ("train.batch_size: 1.5", "invalid int value: '1.5'"),
        ("actor.adam.lr: [1]", "takes one value, not a list"),
    ],
)
def test_a_value_that_the_flag_does_not_take_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_a_word_without_a_flag_is_refused(tmp_path: Path) -> None:
    assert "'train' stands where a flag was expected" in refused(tmp_path, argv=("train", "--actor.name", "x"))
    assert "'-x' stands where a flag was expected" in refused(tmp_path, argv=("-x",))


def test_a_file_that_is_no_mapping_of_flags_is_refused(tmp_path: Path) -> None:
    assert "holds a list, not a mapping" in refused(tmp_path, "- actor.name\n- x\n")
    assert "is not YAML" in refused(tmp_path, "actor: [1, 2\n")
    (tmp_path / "latin.yaml").write_bytes(b"actor.name: \xff\n")
    with pytest.raises(UserError, match="is not YAML"):
        config.read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(UserError, match="there is no config file"):
        config.read_yaml(tmp_path / "absent.yaml")


def test_nested_and_flat_flags_are_the_same_thing() -> None:
    flat = {"a.b.c": 1, "a.b.d": None, "a.e": [2], "f": "x"}
    node = config.nested(flat)
    assert (node.a.b.c, node.a.e, node.f) == (1, [2], "x")
    assert config.flatten_namespace(node) == flat


def test_a_dump_parses_to_the_same_flags_again(tmp_path: Path) -> None:
    """Text that looks like a boolean, a small float, and inf, whose YAML form ".inf" is no number to argparse."""
    text = (
        "actor: {name: 'true', adam: {lr: 2e-5, betas: [0.8, 0.9]}}\ntrain: {colocate_all: true}\n"
        "hybrid.clip_prefix: false\neval.steps: .inf\nds.zero_stage: 0\n"
        "reward.urls: [a, 'b c']\nlora.modules: [q, k]\n"
    )
    values = parsed(tmp_path, text)
    assert values["eval.steps"] == float("inf") and values["actor.name"] == "true"
    assert parsed(tmp_path, config.dump(values)) == values


def test_a_dump_of_the_defaults_parses_to_the_defaults(tmp_path: Path) -> None:
    """Among them a list flag whose default is a word: ["all-linear"] would be the name of a module."""
    values = vars(make_parser().parse_args([]))
    assert parsed(tmp_path, config.dump(values)) == {**values, "actor.adam.betas": [0.9, 0.95]}


def test_a_dump_holds_no_secret_and_no_second_name_of_a_flag() -> None:
    text = config.dump({"logger.wandb.key": "hunter2", "actor.loss_agg_mode": "token-mean", "actor.name": "x"})
    assert text == "actor.name: x\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_takes_the_flags_of_its_base_and_of_the_base_of_that(tmp_path: Path) -> None:
    """Found from the file that names it, wherever the run was started; the nearest file wins, null goes back."""
    write(tmp_path, "base/paper.yaml", "actor: {adam: {lr: 1.0e-6}, name: paper}\ntrain.batch_size: 512\n")
    write(tmp_path, "base/placed.yaml", "base: paper.yaml\nactor.name: placed\nds.zero_stage: 2\n")
    path = write(tmp_path, "model/rft.yaml", "base: ../base/placed.yaml\nactor: {name: model}\nds.zero_stage: null\n")
    found = config.read_yaml(path)
    assert found == {"actor.adam.lr": 1e-6, "actor.name": "model", "train.batch_size": 512, "ds.zero_stage": None}
    parser = make_parser()
    assert config.parse(parser, found)["ds.zero_stage"] == parser.get_default("ds.zero_stage") == 3


def test_a_circle_of_bases_a_list_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "base: sub/b.yaml\n")
    write(tmp_path, "sub/b.yaml", "base: ../a.yaml\n")
    with pytest.raises(UserError, match="a.yaml is, by way of `base`, based on itself"):
        config.read_yaml(first)
    with pytest.raises(UserError, match=r"base is \['x.yaml'\]: name one YAML file"):
        config.read_yaml(write(tmp_path, "list.yaml", "base: [x.yaml]\n"))
    with pytest.raises(UserError, match="there is no config file .*absent.yaml"):
        config.read_yaml(write(tmp_path, "lost.yaml", "base: absent.yaml\n"))


def test_the_word_env_is_no_secret(tmp_path: Path) -> None:
    """The repeated run reads its key from the environment again; a key itself never reaches the file."""
    assert config.dump({"logger.wandb.key": "env"}) == "logger.wandb.key: env\n"
    assert config.dump({"logger.wandb.key": "hunter2"}) == "{}\n"
