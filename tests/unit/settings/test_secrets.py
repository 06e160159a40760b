"""Secrets are found in URLs, named by variables, and kept out of every text that a run writes."""

import os
import sys
from types import SimpleNamespace

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.settings import secrets
from openrlhf_prefix.settings.resolve import resolve

FLAGS = ["--config", "configs/quickstart.yaml"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("401 for https://me:x@judge/score?key=y", "401 for https://judge/score?..."),
        ("url=URL('http://x@judge:8000/a?b=c&d=e')", "url=URL('http://judge:8000/a?...')"),
        ("http://judge:8000/score", "http://judge:8000/score"),
        ("two: http://a?k=1, http://b/c?k=2", "two: http://a?... http://b/c?..."),
        ("redis://:x@cache/0 (or postgresql://u:x@db/y)", "redis://cache/0 (or postgresql://db/y)"),
        ("what is 3 @ 4? me@example.org says 12?", "what is 3 @ 4? me@example.org says 12?"),
    ],
)
def test_a_text_keeps_its_urls_without_their_secrets(text: str, shown: str) -> None:
    assert secrets.without_secrets(text) == shown


def test_variables_of_urls_are_found_and_filled_in() -> None:
    urls = ["http://judge/$KEY?a=${OTHER}", "http://judge/$KEY"]
    assert secrets.named(urls) == ["KEY", "OTHER"]
    assert secrets.filled(urls, {"KEY": "k", "OTHER": "$KEY"}) == ["http://judge/k?a=$KEY", "http://judge/k"]


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://me:hunter2@judge/score", "a user or password"),
        ("https://judge/score?model=a&api_key=hunter2", "the value of api_key"),
        ("https://judge/score?sig=hunter2", "the value of sig"),
    ],
)
def test_a_secret_in_plain_sight_is_refused_and_not_repeated(url: str, what: str) -> None:
    with pytest.raises(UserError, match=rf"reward.remote_url holds {what}.*\$JUDGE_KEY") as refused:
        resolve([*FLAGS, "--reward.remote_url", f"http://judge/a,{url}"], files=False)
    assert "hunter2" not in str(refused.value)


def test_a_variable_stays_a_variable_in_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "hunter2")
    flags = [*FLAGS, "--reward.remote_url", "https://$JUDGE_KEY@judge/score?key=${JUDGE_KEY}&model=a"]
    resolved = resolve(flags, files=False)
    assert resolved.args.reward.remote_url == ["https://$JUDGE_KEY@judge/score?key=${JUDGE_KEY}&model=a"]
    assert secrets.take(resolved.args) == {"JUDGE_KEY": "hunter2"}
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(UserError, match="reward.remote_url names JUDGE_KEY, not set here"):
        secrets.take(resolved.args)


def test_the_key_of_wandb_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secrets.WANDB_KEY, "hunter2")
    flags = SimpleNamespace(reward=SimpleNamespace(remote_url=None))
    flags.logger = SimpleNamespace(wandb=SimpleNamespace(key="env"))
    assert secrets.take(flags) == {secrets.WANDB_KEY: "hunter2"}
    assert secrets.WANDB_KEY not in os.environ


def test_the_controller_alone_has_the_key_and_only_while_its_trackers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secrets.WANDB_KEY, raising=False)
    with secrets.wandb_key({secrets.WANDB_KEY: "hunter2"}):
        assert os.environ[secrets.WANDB_KEY] == "hunter2"
    assert secrets.WANDB_KEY not in os.environ
    with secrets.wandb_key({}):
        assert secrets.WANDB_KEY not in os.environ


@pytest.mark.parametrize("words", [["--logger.wandb.key", "hunter2"], ["--logger.wandb.key=hunter2"]])
def test_a_key_on_the_command_line_starts_the_command_anew_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    started = []
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "openrlhf_prefix.cli", "train", *words, "--run.dir", "x"])
    monkeypatch.setattr(
        os, "execv", lambda program, argv: started.append((program, argv, os.environ[secrets.WANDB_KEY]))
    )
    monkeypatch.setenv(secrets.WANDB_KEY, "another")
    flags = SimpleNamespace(logger=SimpleNamespace(wandb=SimpleNamespace(key="hunter2")))
    secrets.off_the_command_line(flags)
    shown = [word.replace("hunter2", "env") for word in words]
    argv = [sys.executable, "-m", "openrlhf_prefix.cli", "train", *shown, "--run.dir", "x"]
    assert started == [(sys.executable, argv, "hunter2")]
    assert "others could read a key" in capsys.readouterr().out
    secrets.off_the_command_line(flags)  # which now says env
    assert len(started) == 1


def test_a_key_out_of_a_file_needs_no_new_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "train", "--config", "a.yaml"])
    monkeypatch.setenv(secrets.WANDB_KEY, "another")
    flags = SimpleNamespace(logger=SimpleNamespace(wandb=SimpleNamespace(key="hunter2")))
    secrets.off_the_command_line(flags)
    assert os.environ[secrets.WANDB_KEY] == "hunter2" and flags.logger.wandb.key == "env"
