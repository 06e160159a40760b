"""The page as a file: nothing that a rollout says can leave the data, and nothing is fetched from anywhere."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report import command
from openrlhf_prefix.report.page import ASSETS, as_json, page
from openrlhf_prefix.report.payload import differing, payload
from openrlhf_prefix.report.reading import names, read_run, read_runs
from openrlhf_prefix.report.run_folder import RunFolder

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>",
    "\u2028\u2029 \u202e\u0000\ud800 \U0001f600",
    "@@DATA@@ @@SCRIPT@@",
    "&lt;b&gt; \\u003c",
]


class Elements(HTMLParser):
    """Start tags, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag == "script"
        self.scripts += [""] * self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data


def folder(path: Path, **more: object) -> Path:
    run = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    run.write_config("hybrid.preset: prefix_rft\nactor.adam.lr: 0.1\n")
    run.append("metrics", [{"step": 1, "reward": 0.5, "timing/step_total": 2.0}])
    texts = {"problem": "p", "answer": "4", "prompt": "q", "prefix": "", "continuation": "a", "reward": 1.0}
    run.append("rollouts", [{"step": 1, "group": 0, "slot": 0, **texts, **more}])
    return path


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_as_it_was_and_stays_in_the_data(text: str, tmp_path: Path) -> None:
    data = payload(read_runs([folder(tmp_path / "run", continuation=text, problem=text, answer=text)]))
    html = page(data)
    html.encode("utf-8")
    elements = Elements(html)
    assert [attributes.get("type") for tag, attributes in elements.tags if tag == "script"] == [
        "application/json",
        None,
    ]
    found = json.loads(elements.scripts[0])
    assert found == data and found["runs"][0]["samples"]["groups"][0]["rows"][0]["text"] == text


def test_the_escape_by_hand() -> None:
    assert as_json({"a": "</script>&\u2028\u00e9"}) == '{"a":"\\u003c/script\\u003e\\u0026\\u2028\\u00e9"}'
    with pytest.raises(ValueError):
        as_json({"a": float("nan")})


def test_the_name_of_a_run_is_escaped_in_the_title(tmp_path: Path) -> None:
    html = page(payload(read_runs([folder(tmp_path / "<b>&")])))
    assert "<title>&lt;b&gt;&amp; - run report</title>" in html and "<b>&" not in html


def test_the_page_fetches_nothing_and_lets_no_other_script_run(tmp_path: Path) -> None:
    """The policy names the hashes of the page's own script and style, and no address."""
    html = page(payload(read_runs([folder(tmp_path / "run")])))
    elements = Elements(html)
    (policy,) = [one["content"] for _, one in elements.tags if one.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "unsafe" not in policy and "http" not in policy
    assert "default-src 'none'" in policy
    addresses = [one[name] for _, one in elements.tags for name in ("src", "href", "action") if name in one]
    assert addresses == ["data:,"]
    assert len(html) < 200_000


def test_the_script_puts_text_in_as_text_alone() -> None:
    own = {path.name: path.read_text() for path in ASSETS.glob("*.js")}
    assert {"text.js", "charts.js", "samples.js", "page.js"} == set(own)
    for name, text in own.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name


def test_the_plotting_library_is_kept_with_its_licence_and_version() -> None:
    assert "v1.6.32" in (ASSETS / "uplot" / "uPlot.min.js").read_text()[:80]
    licence = (ASSETS / "uplot" / "LICENSE").read_text()
    assert "MIT License" in licence
    assert licence in page({"runs": [], "charts": []})
    setup = (ASSETS.parents[2] / "setup.py").read_text()
    assert "report/assets" in setup


def test_flags_that_differ_without_the_folders_own_names(tmp_path: Path) -> None:
    first, second = (read_run(folder(tmp_path / name), name) for name in "ab")
    second.flags = {"hybrid.preset": "rft", "actor.adam.lr": 0.1, "run.dir": "b", "prefix.stages": [1, 2]}
    first.flags["run.dir"] = "a"
    assert differing([first, second]) == [["hybrid.preset", "prefix_rft", "rft"], ["prefix.stages", "-", "1 2"]]
    assert differing([first]) == []


def test_runs_have_the_shortest_names_that_tell_them_apart() -> None:
    assert names([Path("runs/a/rft"), Path("runs/b/rft")]) == ["a/rft", "b/rft"]
    assert names([Path("/x/one"), Path("/y/two")]) == ["one", "two"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no folder"),
        (lambda path: path.mkdir(), "is no run folder, it has no metrics.jsonl: name the --run.dir"),
        (lambda path: path.write_text("x"), "there is no folder"),
        (lambda path: folder(path / "inner"), "name the run folders in it: .*inner"),
        (lambda path: (path.mkdir(), (path / "config.yaml").write_text("a: 1\n")), "no step and no evaluation"),
        (lambda path: (path.mkdir(), (path / "metrics.jsonl").write_text("")), "no step and no evaluation"),
        (lambda path: (path.mkdir(), (path / "metrics.jsonl").write_text('{"step": 1, "re')), "no step and no eval"),
        (
            lambda path: (path.mkdir(), (path / "metrics.jsonl").write_bytes(b"\xff\xfe\n[]\n\n")),
            "no step and no eval",
        ),
    ],
)
def test_nothing_to_show_is_a_sentence(make, words: str, tmp_path: Path) -> None:
    make(tmp_path / "run")
    with pytest.raises(UserError, match=words):
        command.main([str(tmp_path / "run")])
    assert not list(tmp_path.rglob("report.html"))


def test_a_half_written_run_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = folder(tmp_path / "run")
    (path / "config.yaml").write_text("a: [1\n")
    (path / "summary.json").write_text('{"steps": 20')
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "reward": NaN, "actor_grad_norm": 3}\nnot json\n{"step": 3, "rewa')
    run = read_run(path, "run")
    assert [row["step"] for row in run.steps] == [1, 2] and "reward" not in run.steps[1]
    assert run.notes == [
        "metrics.jsonl: 1 line(s) could not be read and are left out",
        "metrics.jsonl: its last line is not whole and is left out",
        "config.yaml could not be read",
        "summary.json could not be read",
    ]
    command.main([str(path)])
    assert "could not be read" in (path / "report.html").read_text()


def test_numbers_beyond_all_floats_are_left_out(tmp_path: Path) -> None:
    path = folder(tmp_path / "run", advantage=10**400, reward=1e400)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "reward": 1' + "0" * 400 + ', "actor_grad_norm": 3, "actor_lr": true}\n')
    run = read_run(path, "run")
    assert run.steps[1] == {"step": 2, "actor_grad_norm": 3}
    (group,) = payload([run])["runs"][0]["samples"]["groups"]
    assert "advantage" not in group["rows"][0] and "reward" not in group["rows"][0]


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "run")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="metrics.jsonl cannot be read .Permission denied"):
        command.main([str(path)])


def test_rollouts_alone_are_enough(tmp_path: Path) -> None:
    path = folder(tmp_path / "run")
    (path / "metrics.jsonl").unlink()
    (path / "config.yaml").unlink()
    assert read_run(path, "run").notes == ["there is no config.yaml: method, model and flags are not known"]
    command.main([str(path), "--output", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a"] * 9, "9 runs, and 8 can be told apart"),
        (["a", "--megabytes", "-1"], "--megabytes -1 is not between"),
        (["a", "--port", "70000"], "--port 70000 is no port"),
    ],
)
def test_options_that_cannot_be(argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        command.main(argv)


def test_a_run_named_twice_or_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = folder(tmp_path / "run")
    with pytest.raises(UserError, match="named twice"):
        command.main([str(path), str(path)])
    with pytest.raises(UserError, match="cannot be written .No such file.*--output"):
        command.main([str(path), "--output", str(tmp_path / "gone" / "page.html")])


def test_the_page_of_several_runs_is_in_none_of_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command.main([str(folder(tmp_path / "a")), str(folder(tmp_path / "b"))])
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("report.html")] == ["report.html"]


def test_a_page_replaces_the_one_before_at_once(tmp_path: Path) -> None:
    path = folder(tmp_path / "run")
    (path / "report.html").write_text("old")
    command.main([str(path)])
    assert (path / "report.html").read_text() != "old" and not list(path.glob(".report*"))
