"""SIGTERM and Ctrl-C in the driver: they are passed on, and the second Ctrl-C does not wait."""

import contextlib
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from openrlhf_prefix import cli, verbs
from openrlhf_prefix.errors import EngineLost, RunInterrupted, RunPaused, RunStopped
from openrlhf_prefix.runtime.driver import signals


class Board:
    """What progress.py's says to stop(); .stop.remote as of a Ray actor, whose answer is the value itself."""

    def __init__(self, watched: bool) -> None:
        self.reasons: list[str] = []

        def stop(reason: str) -> bool:
            self.reasons.append(reason)
            return watched

        self.stop = SimpleNamespace(remote=stop)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "ray", SimpleNamespace(get=lambda answer: answer))


def wait_for(reasons: list[str], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(reasons) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(reasons) == count


def test_a_signal_is_passed_on_and_the_second_ctrl_c_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    board = Board(watched=True)
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = signal.getsignal(signal.SIGINT)
    with signals.signals_to(board):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(board.reasons, 2)
        assert board.reasons == ["SIGTERM", "Ctrl-C"]
        with pytest.raises(SystemExit) as end:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        assert end.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line] == [
        "openrlhf-prefix: Ctrl-C: the last finished step is saved before the end; once more ends at once",
        "openrlhf-prefix: ended at once; the same command with --ckpt.load_enable goes on after the last save",
    ]


def test_a_ctrl_c_that_was_lost_on_the_way_ends_the_start_before_it_waits() -> None:
    """As one raised inside a destructor is: printed, and passed over."""
    before = signal.signal(signal.SIGINT, cli.Insistent())
    try:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), signals.signals_to(Board(watched=True)):
            pytest.fail("the run goes on")
    finally:
        signal.signal(signal.SIGINT, before)


def test_before_the_controller_looks_ctrl_c_ends_the_start() -> None:
    board, words = Board(watched=False), "nothing is saved: the first step had not begun"
    with (
        pytest.raises(RunInterrupted, match=words),
        signals.signals_to(board),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert board.reasons == ["Ctrl-C"]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (RunInterrupted("Ctrl-C arrived; step 3 is saved"), 130, "stopped: Ctrl-C arrived; step 3 is saved"),
        (RunPaused("SIGTERM arrived; step 3 is saved"), 75, "stopped: SIGTERM arrived; step 3 is saved"),
        (RunStopped("a weight is not finite"), 1, "stopped: a weight is not finite"),
        (EngineLost("two engines died"), 1, "stopped: two engines died"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_end_is_one_line_and_has_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, line: str
) -> None:
    def main(argv: list[str]) -> None:
        raise raised

    monkeypatch.setattr(verbs.Verb, "load", lambda verb: SimpleNamespace(main=main))
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as end:
            cli.main(["plan", "x"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == code
    assert capsys.readouterr() == ("", f"openrlhf-prefix: {line}\n")
