"""Joining and submitting: deadlines that name who came, what travels with a job and what does not."""

import asyncio
import http.server
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.driver import join, submit


def test_waiting_ends_with_the_last_node(monkeypatch, capsys):
    monkeypatch.setattr(join, "POLL_SECONDS", 0.0)
    answers = iter([[], ["a"], ["a"], ["a", "b"]])
    assert join.wait_for_nodes(lambda: next(answers), 2, 60, "head:1") == ["a", "b"]
    assert capsys.readouterr().out == "1 of 2 nodes: a\n2 of 2 nodes: a, b\n"


def test_the_deadline_names_the_nodes_that_came(monkeypatch):
    monkeypatch.setattr(join, "POLL_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"1 of 3 nodes joined head:1 within 0 s \(10.0.0.1\)"):
        join.wait_for_nodes(lambda: ["10.0.0.1"], 3, 0.0, "head:1")


def test_variables_are_passed_on_by_name_and_secrets_only_when_named():
    here = {"NCCL_DEBUG": "INFO", "HF_HOME": "/s", "HF_TOKEN": "x", "WANDB_API_KEY": "y", "HOME": "/h", "MINE": "1"}
    assert submit.passed_on(here) == {"NCCL_DEBUG": "INFO", "HF_HOME": "/s"}
    named = submit.passed_on(here | {"PASS_ENV": "MINE HF_TOKEN"})
    assert named == {"NCCL_DEBUG": "INFO", "HF_HOME": "/s", "MINE": "1", "HF_TOKEN": "x"}
    with pytest.raises(UserError, match="PASS_ENV names YOURS, not set here"):
        submit.passed_on(here | {"PASS_ENV": "MINE YOURS"})


def test_a_job_carries_the_package_and_its_flags_and_nothing_else(tmp_path):
    submit.pack(tmp_path, "train.batch_size: 8\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.yaml", "openrlhf_prefix"]
    assert (tmp_path / "config.yaml").read_text() == "train.batch_size: 8\n"
    page = {".html", ".css", ".js", ""}  # of report/assets, the last of a licence
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes == {".py", ".typed", ".yaml"} | page
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**21


@pytest.mark.parametrize(
    ("status", "code", "expected"), [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("STOPPED", 0, 1)]
)
def test_the_exit_code_is_the_jobs(status, code, expected):
    info = SimpleNamespace(status=status, driver_exit_code=code, submission_id="job", message="it ended")
    assert submit.exit_code(info) == expected


class Cluster:
    """A job server whose connection breaks once, in the middle of a line."""

    def __init__(self) -> None:
        self.tails = iter([["one\ntw"], ["one\n", "two\nthree\n"]])
        self.statuses = iter([False, True])

    async def tail_job_logs(self, job: str):
        for text in next(self.tails):
            yield text

    def get_job_status(self, job: str) -> SimpleNamespace:
        return SimpleNamespace(is_terminal=lambda: next(self.statuses))


def test_a_log_taken_up_again_repeats_nothing(capsys, monkeypatch):
    pytest.importorskip("aiohttp")

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr(submit.asyncio, "sleep", at_once)
    asyncio.run(submit.follow(Cluster(), "job"))
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_a_dead_address_is_refused_within_fifteen_seconds():
    """Nobody listens on a port that was just given back: each try is refused at once, and tries end after 10 s."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert submit.HEAD_SECONDS < 15
    with pytest.raises(
        UserError, match=rf"no cluster answers at http://127.0.0.1:{port} within 0.3 s .*refused.*HEAD:8265"
    ):
        with_seconds(0.3, f"http://127.0.0.1:{port}")


def test_an_address_that_takes_connections_and_says_nothing_is_refused_too():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(UserError, match="no cluster answers at 127.0.0.1:"):
            with_seconds(0.3, f"127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - start < 3


@pytest.fixture
def served(monkeypatch):
    """Starts a server of the given kind; gives its address."""
    servers = []

    def start(handler):
        monkeypatch.setattr(handler, "log_message", lambda *_: None)
        servers.append(http.server.HTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()


def test_an_error_of_a_dashboard_that_starts_is_an_answer(served):
    submit.check_head(served(http.server.BaseHTTPRequestHandler))  # 501 to everything


def test_a_server_that_knows_no_such_page_is_no_dashboard(served, tmp_path, monkeypatch):
    """As a proxy or another service on that port: it would be asked for jobs for two minutes."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no dashboard of Ray's: 404"):
        with_seconds(0.3, served(http.server.SimpleHTTPRequestHandler))


def with_seconds(seconds, address):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit, "HEAD_SECONDS", seconds)
        submit.check_head(address)
