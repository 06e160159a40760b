"""A hub that does not answer is noticed within seconds; names that are there do not ask it."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

constants = pytest.importorskip("huggingface_hub.constants")
from openrlhf_prefix.data import hub  # noqa: E402
from openrlhf_prefix.data.files import iterate  # noqa: E402
from openrlhf_prefix.errors import UserError  # noqa: E402


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The state that prepare() may change is put back."""
    datasets = pytest.importorskip("datasets")
    answers = hub._answers
    answers.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv(hub.OFFLINE, "")
    yield
    answers.cache_clear()


def silent() -> socket.socket:
    """A port that takes connections and never answers."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def test_a_missing_data_set_is_refused_within_five_seconds_of_a_silent_hub(monkeypatch, capsys) -> None:
    with silent() as listening:
        monkeypatch.setattr(hub, "SECONDS", 0.3)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserError, match="nobody/nothing cannot be read: .*offline: download it"):
            list(iterate("nobody/nothing"))
        assert time.monotonic() - start < 5
    assert "does not answer: only what is in the cache is found" in capsys.readouterr().err
    assert constants.is_offline_mode()


def test_a_missing_model_is_refused_before_transformers_is_imported(tmp_path) -> None:
    """In a process of its own, within 5 s of a silent hub; one that is in the cache is left to transformers."""
    with silent() as listening:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "HF_HOME": str(tmp_path),
        }
        (tmp_path / "hub" / "models--some--body").mkdir(parents=True)
        code = (
            "import sys, time; from openrlhf_prefix.data import hub; start = time.monotonic()\n"
            "hub.prepare_model('some/body')\n"
            "try:\n    hub.prepare_model('nobody/nothing')\n"
            "except hub.Unreachable as error:\n    print(error)\n"
            "assert time.monotonic() - start < 5 and 'transformers' not in sys.modules"
        )
        found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("nobody/nothing is not a folder here, and not in the cache")
    assert "offline: download it" in found.stdout


def test_a_hub_that_answers_at_all_is_left_to_its_library(monkeypatch) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # 501 to everything
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    hub.prepare("nobody/nothing")
    server.shutdown()
    assert not constants.is_offline_mode() and type(hub.refusal("no")) is UserError


def test_a_local_path_asks_nobody(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(hub, "_answers", lambda url: pytest.fail("asked the hub"))
    hub.prepare(str(tmp_path))
