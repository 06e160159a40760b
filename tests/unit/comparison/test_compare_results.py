"""results.jsonl survives kills, and a run folder is read for what it says."""

import json
from pathlib import Path

import pytest

from openrlhf_prefix.comparison.commands import Job
from openrlhf_prefix.comparison.plan import Run
from openrlhf_prefix.comparison.results import Results, evaluation_line, training_line
from openrlhf_prefix.data.sampled import Cost
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder


def job(method: str, settings: str) -> Job:
    return Job(Run("final", "t", method, 1e-4, 1), Path("runs"), None, None, settings, 1)


def test_lines_are_found_again_and_a_half_written_one_is_dropped(tmp_path: Path) -> None:
    Results(tmp_path).add({"run": "a", "settings": "x"})
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"run": "b", "sett')
    results = Results(tmp_path)
    assert list(results.finished()) == ["a"]
    results.add({"run": "b", "settings": "y"})
    assert list(Results(tmp_path).finished()) == ["a", "b"]


def test_the_last_line_of_a_run_counts(tmp_path: Path) -> None:
    """It failed and was tried again; another one failed twice."""
    results = Results(tmp_path)
    for line in (
        {"run": "a", "failed": "no memory"},
        {"run": "b", "failed": "1"},
        {"run": "a"},
        {"run": "b", "failed": "2"},
    ):
        results.add(line)
    for seen in (results, Results(tmp_path)):
        assert list(seen.finished()) == ["a"] and seen.failed() == {"b": {"run": "b", "failed": "2"}}


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add({"run": job("a", "old").run.name, "settings": "old"})
    results.add({"run": job("b", "old").run.name, "settings": "old", "failed": "x"})
    results.check_settings([job("a", "old"), job("b", "new"), job("c", "new")])  # b will be run again anyway
    with pytest.raises(UserError, match="holds .*a.* with other settings .* choose another --folder"):
        results.check_settings([job("b", "new"), job("a", "new")])


def test_a_trainings_line_adds_up_its_steps(tmp_path: Path) -> None:
    """Tokens 100 + 50 generated and 80 + 40 trained, 2.5 + 1.5 s; two sources of 0.2 and 0.4 are 0.3 at step 0."""
    folder = RunFolder(tmp_path)
    steps = [
        {"step": 1, "timing/step_total": 2.5, "rollout/tokens_generated": 100.0, "train/tokens": 80.0},
        {"step": 2, "timing/step_total": 1.5, "rollout/tokens_generated": 50.0, "train/tokens": 40.0},
    ]
    before = {"step": 0, "eval_a_pass1": 0.2, "eval_b_pass1": 0.4, "eval_a_pass4": 0.9, "timing/evaluation": 3.0}
    folder.append("metrics", [before, *steps, {"step": 2, "eval_a_pass1": 0.5, "eval_b_pass1": 0.6}])
    folder.write_summary({"steps": 2})
    line = {
        "steps": 2,
        "tokens_generated": 150.0,
        "tokens_of_data": 0,
        "tokens_trained": 120.0,
        "seconds": 4.0,
        "curve": [[0, pytest.approx(0.3)], [2, pytest.approx(0.55)]],
    }
    assert training_line(tmp_path) == line
    made = {"tokens_generated": 1150.0, "tokens_of_data": 1000, "seconds": 9.0}
    assert training_line(tmp_path, Cost(1000, 5.0)) == line | made


def test_an_evaluations_line_has_the_names_of_the_sets(tmp_path: Path) -> None:
    row = {"problems": 2, "avg": 0.5, "interval": [0, 1], "pass": {"1": 0.5}}
    sets = [{"dataset": "h.jsonl", **row, "correct": [0, 4]}, {"dataset": "l.jsonl", **row, "avg": 0.1}]
    (tmp_path / "evaluation.json").write_text(json.dumps({"datasets": sets}))
    line = evaluation_line(tmp_path / "evaluation.json", {"heldout": "h.jsonl", "longer": "l.jsonl"})
    assert line == {"sets": {"heldout": row, "longer": {**row, "avg": 0.1}}}
