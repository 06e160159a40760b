"""The child of a call: its output, its errors, Ctrl-C, and what becomes of it when nobody waits any more."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from openrlhf_prefix import RunInterrupted, RunPaused, RunStopped, UserError, cli
from openrlhf_prefix.api import process
from openrlhf_prefix.report.run_folder import RunFolder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    RunFolder(tmp_path).append("metrics", [{"step": 1, "reward": 0.5}])
    return tmp_path


def test_what_the_verb_prints_is_printed(folder: Path, capsys) -> None:
    assert process.call("report", [str(folder)]) is None
    assert f"{folder / 'report.html'} (" in capsys.readouterr().out


def test_a_mistake_is_the_sentence_of_the_command_line(tmp_path: Path, capsys) -> None:
    words = [str(tmp_path / "none")]
    with pytest.raises(UserError) as raised:
        process.call("report", words)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        cli.main(["report", *words])
    assert capsys.readouterr().err == f"openrlhf-prefix: {raised.value}\n"


@pytest.mark.parametrize("kind", [RunStopped, RunPaused, RunInterrupted, KeyboardInterrupt])
def test_every_end_has_its_class(kind: type, monkeypatch, tmp_path: Path) -> None:
    """Raised inside a Ray actor, as RunPaused is, an exception arrives wrapped, with the original as its cause."""
    (tmp_path / "ending.py").write_text(
        "import sys\nfrom openrlhf_prefix import cli, errors\nfrom openrlhf_prefix.api import child\n"
        f"original = {kind.__name__ if kind is KeyboardInterrupt else f'errors.{kind.__name__}'}('step 3 is saved')\n"
        "class Wrapped(type(original)): pass\n"
        "def run(verb, words):\n"
        "    wrapped = Wrapped('a traceback')\n    wrapped.cause = original\n    raise wrapped\n"
        "cli.run = run\nchild.main()\n"
    )
    monkeypatch.setattr(process, "CHILD", "ending")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kind) as raised:
        process.call("train", [])
    assert type(raised.value) is kind
    assert kind is KeyboardInterrupt or str(raised.value) == "step 3 is saved"


def test_a_crash_is_told_from_a_mistake(monkeypatch, capsys) -> None:
    monkeypatch.setattr(process, "CHILD", "no_such_module")
    with pytest.raises(RunStopped, match="ended with exit code 1 and no answer"):
        process.call("train", [])
    assert "No module named no_such_module" in capsys.readouterr().out


def test_ctrl_c_goes_on_to_the_child_and_what_it_says_counts(folder: Path, capsys) -> None:
    """`report --serve` ends well by Ctrl-C; here nothing is raised."""
    after = threading.Thread(target=interrupt_once, args=(capsys,))
    after.start()
    assert process.call("report", [str(folder), "--serve", "--port", "0"]) is None
    after.join()


def interrupt_once(capsys) -> None:
    wait_for(lambda: "127.0.0.1" in capsys.readouterr().out)
    os.kill(os.getpid(), signal.SIGINT)


def test_from_another_thread_it_is_the_same(tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            process.call("report", [str(tmp_path / "none")])
        except UserError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_child_ends_with_the_process_that_asked_for_it(folder: Path) -> None:
    """By SIGKILL, as when a notebook's kernel is killed: nothing here could have ended it."""
    code = (
        f"from openrlhf_prefix.api import process; process.call('report', [{str(folder)!r}, '--serve', '--port', '0'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    asker = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert asker.stdout
    port = int(re.search(r"127\.0\.0\.1:(\d+)", asker.stdout.readline())[1])
    assert answers(port)
    asker.kill()
    asker.wait()
    asker.stdout.close()
    wait_for(lambda: not answers(port))


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
