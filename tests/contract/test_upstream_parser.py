"""The tables about OpenRLHF's flags fit the installed parser, and the tests that they name set those flags."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("openrlhf")

from openrlhf_prefix.settings import config, renamed, upstream_cli, upstream_flags  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PARSER = upstream_cli.build_parser()
KNOWN = config.flag_actions(PARSER)
# Where else the flags of a test stand.
BESIDE = {
    "tests/e2e": ["tests/e2e/conftest.py"],
    "tests/integration/runtime/test_exactness.py": ["openrlhf_prefix/runtime/audit/exactness/layouts.py"],
    "tests/integration/runtime/test_checkpoints.py": ["tests/integration/runtime/policy_ranks.py"],
}
QUICKSTART = config.flatten(yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text()))


@pytest.mark.parametrize("table", [upstream_flags.IDLE, upstream_flags.REFUSED], ids=["idle", "refused"])
def test_a_table_names_flags_of_the_parser_alone(table):
    assert set(table) <= set(KNOWN)


def test_every_flag_has_one_place_at_the_most():
    places = [*upstream_flags.IDLE, *upstream_flags.REFUSED]
    places += [name for names in upstream_flags.TESTED.values() for name in names]
    assert len(places) == len(set(places)) and set(places) <= set(KNOWN)


@pytest.mark.parametrize("test", list(upstream_flags.TESTED))
def test_a_test_sets_the_flags_that_it_is_named_for(test):
    files = [test, *(path for start, paths in BESIDE.items() if test.startswith(start) for path in paths)]
    text = "".join((ROOT / name).read_text() for name in files)
    run = QUICKSTART if test.startswith("tests/e2e") else {}
    missing = [
        name
        for name in upstream_flags.TESTED[test]
        if name not in run and not any(written in text for written in (name, name.replace(".", "__"), leaf(name)))
    ]
    assert not missing


def leaf(name: str) -> str:
    """As a keyword argument of the class under test, is_correction_gating=..."""
    return f"{name.rpartition('.')[2]}="


def test_every_flag_of_a_critic_is_idle_or_refused():
    critic = {name for name in KNOWN if name.startswith("critic.")}
    assert critic <= set(upstream_flags.IDLE) | set(upstream_flags.REFUSED)


def test_a_refused_flag_is_refused_for_every_value_but_its_default():
    """The refusal has no condition; so the default has to be the one value that means nothing."""
    defaults = {name: PARSER.get_default(KNOWN[name].dest) for name in upstream_flags.REFUSED}
    assert set(map(repr, defaults.values())) <= {"False", "None", "0", "1", "-1"}


def test_old_names_are_old_and_their_answers_are_flags():
    assert not set(renamed.RENAMED) & set(KNOWN) and not set(renamed.GONE) & set(KNOWN)
    assert set(renamed.RENAMED.values()) <= set(KNOWN)
