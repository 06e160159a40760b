"""A method from outside the package is found by its name, in the driver and in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_prefix.algorithm.imitation import IMITATION
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import plugins

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "tests" / "e2e" / "focal.py"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plugin adds is gone after the test."""
    monkeypatch.setattr(plugins, "_loaded", set())
    for table in (PRESETS, IMITATION):
        monkeypatch.setitem(table, "focal", None)


def test_a_plugin_adds_rows_and_runs_once(tables, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    copy = tmp_path / "method.py"
    copy.write_text(EXAMPLE.read_text() + f"\nopen({str(counter)!r}, 'a').write('x')\n")
    plugins.load(str(copy))
    plugins.load(str(copy))
    assert PRESETS["focal"].imitation == "focal" and callable(IMITATION["focal"]) and counter.read_text() == "x"


def test_what_is_wrong_with_a_plugin_is_said(tables, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        plugins.load(str(tmp_path / "absent.py"))
    broken = tmp_path / "broken.py"
    broken.write_text("raise KeyError('focal')")
    with pytest.raises(UserError, match="fails: KeyError: 'focal'"):
        plugins.load(str(broken))
    plugins.load(None)


def test_a_relative_path_is_made_absolute_for_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugins.named_in({"hybrid.plugin": "method.py"}) == str(tmp_path / "method.py")
    assert plugins.named_in({}) is None and plugins.named_in({"hybrid.plugin": None}) is None


def test_the_preset_of_a_plugin_is_a_choice_of_the_command_line(tmp_path: Path) -> None:
    """The example of docs/50-methods.md, word by word, in a fresh process."""
    documented = (ROOT / "docs" / "50-methods.md").read_text().split("```python\n")[1].split("```")[0]
    method = tmp_path / "method.py"
    method.write_text(documented)
    script = (
        "from openrlhf_prefix.settings import plugins, flags, preset_flags; import argparse; "
        f"plugins.load({str(method)!r}); parser = argparse.ArgumentParser(); flags.add_flags(parser); "
        "values = preset_flags.preset_values({'hybrid.preset': 'focal'}); "
        "print(parser.parse_args(['--hybrid.preset', 'focal', '--hybrid.imitation', values['hybrid.imitation']]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "focal" in done.stdout, done.stderr
