"""The card of an export, by a run folder made by hand, and its way to a hub that answers as the real one does."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.learner import card, export_command, push
from openrlhf_prefix.settings.resolve import resolve

RIGHT = ([0, 2, 4], [4, 4, 4])  # of four samples: pass1 is 50 %, pass4 2 of 3


def facts_of(model: Path) -> dict[str, Any]:
    flags = [
        "--actor.model_name_or_path",
        str(model),
        "--data.prompt_dataset",
        str(model.parent / "set" / "train.jsonl"),
    ]
    flags += [
        "--vllm.num_engines",
        "1",
        "--actor.adam.lr",
        "3e-5",
        "--rollout.max_new_tokens",
        "64",
        "--eval.n_samples_per_prompt",
        "4",
    ]
    flat = resolve(flags, files=False).flat
    return json.loads(json.dumps({"flags": flat, "versions": {"torch": "2"}, "dataset": "abc", "problems": 7}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [a]\n---\n# Tiny\n")
    return folder


def test_a_card_says_what_it_is_made_of_and_how_good(model: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    names = {"source": "chains", "problems": ["a", "b", "c"]}
    counts = {step: {"correct": right, "judged": RIGHT[1]} for step, right in ((0, [0, 0, 0]), (5, RIGHT[0]))}
    run.append("evaluations", [{"step": step, **names, **of_step} for step, of_step in counts.items()])
    written = card.card(facts_of(model), 5, run.path)
    head = yaml.safe_load(written.split("---\n")[1])
    assert head["license"] == "apache-2.0" and head["tags"] == ["openrlhf_prefix", "prefix_rft"]
    assert "base_model" not in head  # a folder of this machine is nobody else's
    assert "# models/tiny after 5 steps of prefix_rft" in written and str(tmp_path) not in written
    assert "| chains_pass1 | 0.0 % (0.0 to 0.0) | 50.0 % (" in written and "| 66.7 % (" in written
    assert "7 problems of `set/train.jsonl`" in written and "`abc`" in written
    settings = yaml.safe_load(written.split("```yaml\n")[1].split("```")[0])
    assert settings["actor.adam.lr"] == 3e-5 and settings["rollout.max_new_tokens"] == 64
    assert not {"actor.adam.betas", "hybrid.preset", "run.dir"} & set(settings)  # as ever, in the title, of a place
    assert "torch 2" in written


def test_without_evaluations_or_a_licence_it_says_less(model: Path, tmp_path: Path) -> None:
    (model / "README.md").write_text("no head")
    written = card.card(facts_of(model), 5, tmp_path)
    assert "## Scores" not in written and "license" not in written and "names none" in written


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's endpoint that a push asks for; refuses with `status` where that is set."""

    status: int | None = None
    pushed: dict[str, bytes] = {}
    asked: list[tuple[str, Any]] = []

    def do_POST(self) -> None:
        body = self._body().decode()
        if self.status or self.headers["Authorization"] != "Bearer a-token":
            self._answer({"error": "no"}, self.status or 401)
        elif self.path.endswith("/repos/create"):
            self.asked.append(("create", json.loads(body)))
            self._answer({"url": f"http://{self.headers['Host']}/owner/name"})
        elif self.path.endswith("/preupload/main"):
            said = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": one["path"], **said} for one in json.loads(body)["files"]]})
        elif self.path.endswith("/validate-yaml"):
            self._answer({"errors": [], "warnings": []})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.pushed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(
                {"commitUrl": f"http://{self.headers['Host']}/owner/name/commit/1", "commitOid": "1", "success": True}
            )

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size + 2)[:-2])
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        if self.status:
            self._answer({"error": "no"}, self.status)
            return
        self._answer({"id": "owner/name", "siblings": [], "sha": "0" * 40})

    def _answer(self, content: Any, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """The tests say enough."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.status, Hub.pushed, Hub.asked = None, {}, []
    address = f"http://127.0.0.1:{server.server_port}"
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: real(endpoint=address, token=token))
    monkeypatch.setenv(push.TOKEN, "a-token")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # of a test before this one
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_push_brings_every_file_to_a_private_repository(hub: Any, tmp_path: Path) -> None:
    for name in ("README.md", "config.json"):
        (tmp_path / name).write_text(name)
    assert push.push(tmp_path, "owner/name").endswith("/owner/name/commit/1")
    assert hub.pushed == {"README.md": b"README.md", "config.json": b"config.json"}
    ((_, created),) = hub.asked
    assert created["name"] == "name" and created["organization"] == "owner"
    assert created.get("private") is True or created.get("visibility") == "private"


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "HF_TOKEN is not valid there"), (403, "HF_TOKEN may not write there"), (500, "500 Internal Server Error")],
)
def test_what_the_hub_refuses_is_a_sentence_and_the_folder_stays(hub, tmp_path, status: int, words: str) -> None:
    hub.status = status
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=f"not pushed to owner/name: .*{words}.*`hf upload owner/name"):
        push.push(tmp_path, "owner/name")


def test_a_hub_that_is_not_there_is_a_sentence(hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, real = "http://127.0.0.1:9", type(huggingface_hub.HfApi(""))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: real(endpoint=closed, token=token))
    with pytest.raises(UserError, match=f"{closed} does not answer"):
        push.push(tmp_path, "owner/name")


@pytest.mark.parametrize(
    ("name", "token", "words"), [("a b", "t", "names no repository"), ("owner/name", "", "HF_TOKEN")]
)
def test_what_could_not_be_pushed_is_not_exported(tmp_path, monkeypatch, name: str, token: str, words: str) -> None:
    monkeypatch.setenv(push.TOKEN, token)
    with pytest.raises(UserError, match=words):
        export_command.main([str(tmp_path), str(tmp_path / "out"), "--push_to", name])
    assert not (tmp_path / "out").exists()
