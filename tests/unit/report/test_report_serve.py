"""The live view: newest data, for this machine alone."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report import serve
from openrlhf_prefix.report.run_folder import RunFolder


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunFolder, ThreadingHTTPServer]]:
    monkeypatch.setattr(serve, "SECONDS", 0.0)
    folder = RunFolder(tmp_path)
    folder.append("metrics", [{"step": 1, "reward": 0.5}])
    running = serve.server(serve.View([tmp_path], 1000), 0)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, running
    running.shutdown()
    running.server_close()


def get(running: ThreadingHTTPServer, path: str, **headers: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{running.server_address[1]}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def test_the_page_is_live_and_its_data_are_the_newest(view: tuple) -> None:
    folder, running = view
    assert running.server_address[0] == "127.0.0.1"
    assert 'data-live="0"' in get(running, "/")
    assert json.loads(get(running, "/data.json"))["runs"][0]["step"] == 1
    folder.append("metrics", [{"step": 2, "reward": 0.5}])
    assert json.loads(get(running, "/data.json"))["runs"][0]["step"] == 2


def test_a_folder_that_goes_away_leaves_the_last_data_and_a_note(view: tuple) -> None:
    folder, running = view
    (folder.path / "metrics.jsonl").unlink()
    data = json.loads(get(running, "/data.json"))
    assert data["runs"][0]["step"] == 1 and "not up to date" in data["runs"][0]["notes"][0]


@pytest.mark.parametrize(("path", "host", "code"), [("/", "evil.example:80", 403), ("/config.yaml", None, 404)])
def test_no_other_name_and_no_other_file(view: tuple, path: str, host: str | None, code: int) -> None:
    """A page that reaches this machine by a name of its own gets nothing, nor does anyone files of the folder."""
    headers = {"Host": host} if host else {}
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(view[1], path, **headers)
    assert refused.value.code == code


def test_a_taken_port_is_a_sentence(view: tuple, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="port [0-9]+ of 127.0.0.1 cannot be used .*--port"):
        serve.server(serve.View([tmp_path], 1000), view[1].server_address[1])
