"""The face of the command line: help of every verb, mistakes in one line, the version."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

import openrlhf_prefix  # noqa: E402
from openrlhf_prefix import cli, pins  # noqa: E402
from openrlhf_prefix.settings.reference import all_flags  # noqa: E402
from openrlhf_prefix.verbs import VERBS  # noqa: E402

ROOT = Path(__file__).parents[3]
WITHOUT_ARGUMENTS = {"exactness", "flags", "schema"}  # they run
WITH_FLAGS = [name for name, verb in VERBS.items() if verb.flags]


def said(capsys: pytest.CaptureFixture, *argv: str) -> str:
    """What a command that ends well prints."""
    try:
        cli.main(argv)
    except SystemExit as ended:
        assert not ended.code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys: pytest.CaptureFixture, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == "" and len(captured.err.splitlines()) == 1
    return captured.err.strip()


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and those of the verbs below it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(leaf for action in below for child in action.choices.values() for leaf in parsers(child))]


def test_the_verbs_are_listed_with_and_without_a_wish_for_help(capsys) -> None:
    text = said(capsys)
    assert text == said(capsys, "--help") == said(capsys, "-h")
    assert all(f"  {name} " in text and verb.summary in text for name, verb in VERBS.items())


@pytest.mark.parametrize("name", list(VERBS))
def test_every_verb_helps_alike(capsys, name: str) -> None:
    """With -h, --help, and with nothing where it needs something; under its own name."""
    text = said(capsys, name, "--help")
    assert text.startswith(f"usage: openrlhf-prefix {name} ") and text == said(capsys, name, "-h")
    if name not in WITHOUT_ARGUMENTS:
        assert text == said(capsys, name)


@pytest.mark.parametrize("name", ["check", "import", "stats"])
def test_a_verb_below_another_helps_alike(capsys, name: str) -> None:
    text = said(capsys, "data", name, "--help")
    assert text.startswith(f"usage: openrlhf-prefix data {name} ") and text == said(capsys, "data", name)


@pytest.mark.parametrize("name", [name for name in VERBS if name not in WITH_FLAGS])
def test_every_option_of_a_verb_has_a_meaning_and_shows_its_default(name: str) -> None:
    for parser in parsers(VERBS[name].parser()):
        text = " ".join(parser.format_help().split())
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), action
            if action.option_strings and action.default not in (None, False, [], argparse.SUPPRESS):
                assert f"(default: {action.default})" in text


def test_help_of_the_flags_names_each_once_ours_first_without_a_block_of_usage(capsys) -> None:
    text = said(capsys, "train", "--help")
    lines = text.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    assert shown == [f"--{flag.name}" for flag in all_flags()] and len(shown) > 220
    ours = [flag.ours for flag in all_flags()]
    assert ours == sorted(ours, reverse=True)
    assert sum("usage:" in line for line in lines) == 1 and not any("[--" in line for line in lines[1:])
    flat = " ".join(text.split())
    for flag in all_flags():
        assert not flag.shown or f"(default: {flag.shown}" in flat


def test_every_flag_has_a_meaning_also_where_openrlhf_gives_none() -> None:
    assert [flag.name for flag in all_flags() if not flag.meaning] == []


@pytest.mark.parametrize("name", [name for name in WITH_FLAGS if name != "train"])
def test_verbs_with_the_flags_of_train_show_them_after_their_own(capsys, name: str) -> None:
    text = said(capsys, name, "--help")
    assert text.index("--prefix.keep") < text.index("--actor.adam.lr")
    if name == "plan":
        assert text.index("--gpu-memory FLOAT") < text.index("--hybrid.preset")
        assert "GiB of a GPU (default: 80.0)" in text


def test_one_group_is_shown_by_its_name_ours_and_openrlhfs(capsys) -> None:
    def names(*topic: str) -> list[str]:
        return [line.split()[0] for line in said(capsys, "train", *topic).splitlines() if line.startswith("  --")]

    prefix = names("--help", "prefix")
    assert len(prefix) == 27 and all(name.startswith("--prefix.") for name in prefix)
    muon = names("--help", "actor.muon")
    assert muon == [f"--actor.muon.{name}" for name in ("lr", "momentum", "ns_steps", "nesterov", "no_nesterov")]
    rollout = names("--help", "rollout")
    assert {"--rollout.stop_strings", "--rollout.top_p"} <= set(rollout)
    supervised = names("--help", "supervised stage")
    assert supervised == [f"--hybrid.sft_{name}" for name in ("steps", "lr", "imitation", "validate")]
    assert names("--help", "prefix.keep") == names("--config", "my.yaml", "-h", "prefix.keep") == ["--prefix.keep"]
    assert names("--help", "--config", "my.yaml") == names("--help")  # a flag is no group


def test_a_group_that_is_not_there_is_refused_with_the_nearest(capsys) -> None:
    assert refusal(capsys, "train", "--help", "prefx").endswith("no group or flag 'prefx': did you mean prefix?")
    assert "choose one of hybrid, prefix, teacher, " in refusal(capsys, "plan", "--help", "xyzzy")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("trian",), "unknown verb 'trian': choose one of train, plan"),
        (("evaluate", "model"), "required: DATASET; see openrlhf-prefix evaluate --help"),
        (("evaluate", "m", "d", "--sample", "3"), "unrecognized arguments: --sample"),
        (("data", "check", "--show"), "--show: expected one argument; see openrlhf-prefix data check --help"),
        (("export", "x"), "required: OUT; see openrlhf-prefix export --help"),
        (("completion", "cmd"), "invalid choice: 'cmd'"),
        (("schema", "data"), "invalid choice: 'data'"),
    ],
)
def test_a_mistake_is_one_line(capsys, argv: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(capsys, *argv)


def test_a_reader_who_goes_away_is_no_fault() -> None:
    command = f"{sys.executable} -W ignore -m openrlhf_prefix.cli train --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("usage: openrlhf-prefix train") and done.stderr == ""


def test_the_version_names_package_revision_and_what_is_installed(capsys) -> None:
    first, python, *packages = said(capsys, "--version").splitlines()
    assert first.startswith(f"openrlhf_prefix {openrlhf_prefix.__version__}")
    assert python == f"python {sys.version.split()[0]}"
    assert packages == [str(package) for package in pins.installed()]
    git = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    revision = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    assert revision in first


def test_a_package_that_is_no_checkout_names_no_revision_of_another_repository(tmp_path: Path) -> None:
    """Installed into an environment inside someone's repository."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copytree(ROOT / "openrlhf_prefix", tmp_path / "site" / "openrlhf_prefix")
    command = [sys.executable, "-W", "ignore", "-m", "openrlhf_prefix.cli", "--version"]
    done = subprocess.run(
        command, cwd=tmp_path / "site", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] == f"openrlhf_prefix {openrlhf_prefix.__version__}", done.stderr


def test_a_shell_completes_verbs_flags_and_choices(capsys, tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(said(capsys, "completion", "bash"))

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in ("openrlhf-prefix", *words))
        call = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_openrlhf_prefix; "
        done = subprocess.run(
            ["bash", "-c", f'{call} printf "%s\\n" "${{COMPREPLY[@]}}"'], capture_output=True, text=True
        )
        return done.stdout.split()

    assert completed("ex") == ["export", "exactness"]
    assert completed("train", "--prefix.ke") == completed("doctor", "--prefix.ke") == ["--prefix.keep"]
    assert completed("train", "--prefix.shape", "co") == ["constant", "cosine"]
    assert completed("plan", "--gpu-m") == ["--gpu-memory"]
    assert completed("data", "st") == ["stats"]


def test_a_dry_run_sends_nothing_to_a_cluster_and_starts_none(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    Path("data.jsonl").write_text('{"prompt": "1+1", "answer": "2"}\n')
    recipe = str(ROOT / "configs" / "qwen3_8b_base" / "rft.yaml")
    argv = ("--config", recipe, "--data.prompt_dataset", "data.jsonl")
    text = said(capsys, "submit", *argv, "--dry_run")
    assert "# not checked here: Qwen/Qwen3-8B-Base is not a " in text
    assert "# dry run: nothing was sent; not checked, as it takes the cluster: GPUs" in text
    assert "RAY_API_SERVER_ADDRESS is not set" in refusal(capsys, "submit", *argv)
    assert "leave --dry_run out" in refusal(capsys, "doctor", *argv, "--dry_run")
