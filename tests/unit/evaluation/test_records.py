"""An evaluation's folder: what a kill leaves is used, what belongs to another evaluation is refused."""

import json
from pathlib import Path

import pytest

from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.records import Records, Verdict, changes

SETTINGS = {"model": "m", "temperature": 0.6, "tasks": {"t": {"samples": 2, "data_hash": "a1"}}}
KEYS = [("t", problem, sample) for problem in ("p", "q") for sample in (0, 1)]


def verdict(problem: str, sample: int, score: float = 1.0) -> Verdict:
    return Verdict(problem, sample, score, "equal" if score else "different", "stop", 5)


def test_a_resumed_evaluation_misses_what_has_no_line(tmp_path) -> None:
    first = Records(tmp_path / "out", SETTINGS)
    assert first.missing(KEYS) == KEYS
    first.add("t", verdict("q", 1), completion="ünï")
    first.add("t", verdict("p", 0, 0.0), completion="b")
    again = Records(tmp_path / "out", SETTINGS, resume=True)
    assert again.missing(KEYS) == [("t", "p", 1), ("t", "q", 0)]
    again.add("t", verdict("p", 1))
    assert again.verdicts("t", "p", 2) == [verdict("p", 0, 0.0), verdict("p", 1)]
    lines = (tmp_path / "out" / "details_t.jsonl").read_text().splitlines()
    assert [json.loads(line)["problem"] for line in lines] == ["q", "p", "p"]


def test_a_line_that_a_kill_cut_off_is_drawn_again(tmp_path) -> None:
    records = Records(tmp_path, SETTINGS)
    for problem, sample in (("p", 0), ("p", 1)):
        records.add("t", verdict(problem, sample))
    path = tmp_path / "details_t.jsonl"
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.splitlines()[1])):
        path.write_bytes(whole[:-cut])
        again = Records(tmp_path, SETTINGS, resume=True)
        assert again.missing(KEYS[:2]) == [("t", "p", 1)]
        again.add("t", verdict("p", 1))
        assert path.read_bytes() == whole  # no half line before it


def test_a_folder_is_not_written_over_and_no_resume_starts_anew(tmp_path) -> None:
    Records(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="--resume goes on with it"):
        Records(tmp_path, SETTINGS)
    assert Records(tmp_path / "new", SETTINGS, resume=True).missing(KEYS) == KEYS


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**SETTINGS, "temperature": 1.0}, "temperature 0.6 -> 1.0"),
        ({**SETTINGS, "model": "n"}, "model m -> n"),
        ({**SETTINGS, "tasks": {"t": {"samples": 4, "data_hash": "a1"}}}, "tasks.t.samples 2 -> 4"),
        ({**SETTINGS, "tasks": {"t": {"samples": 2, "data_hash": "b2"}}}, "tasks.t.data_hash a1 -> b2"),
        ({**SETTINGS, "tasks": {}}, "tasks.t "),
    ],
)
def test_other_settings_are_refused_with_what_differs(tmp_path, settings: dict, said: str) -> None:
    Records(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="made with other settings") as refused:
        Records(tmp_path, settings, resume=True)
    assert said in str(refused.value)


def test_broken_settings_are_a_sentence(tmp_path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(UserError, match="settings.json cannot be read"):
        Records(tmp_path, SETTINGS, resume=True)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = Records(None, SETTINGS)
    records.add("t", verdict("p", 0))
    assert records.verdicts("t", "p", 1) == [verdict("p", 0)] and not list(Path().iterdir())


def test_changes_pass_over_what_is_ignored_at_every_depth() -> None:
    old = {"seed": 1, "k": [1], "tasks": {"t": {"file": "a", "n": 1}}}
    new = {"seed": 2, "k": [1, 2], "tasks": {"t": {"file": "b", "n": 1}, "u": {}}}
    assert changes(old, new, ("seed", "file")) == ["k [1] -> [1, 2]", "tasks.u none -> {}"]
