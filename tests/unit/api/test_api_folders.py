"""A run folder and a comparison as DataFrames, by hand."""

import json
from pathlib import Path

import pytest
import yaml

from openrlhf_prefix import Comparison, Run, UserError
from openrlhf_prefix.report.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Evaluated at 0 and 2; the step that follows was cut off by a kill."""
    folder = RunFolder(tmp_path / "run")
    folder.claim(resume=False)
    folder.write_config(yaml.safe_dump({"hybrid.preset": "prefix_rft", "ckpt.output_dir": "/gone/export"}))
    rows = [{"step": 0, "eval_chains_pass1": 0.25}, {"step": 1, "reward": 0.5}, {"step": 2, "reward": 0.75}]
    folder.append("metrics", [*rows, {"step": 2, "eval_chains_pass1": 0.5}])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "rew')
    folder.append("rollouts", [{"step": step, "slot": slot} for step in (1, 2) for slot in (0, 1, 2)])
    return Run(folder.path)


def test_metrics_have_a_row_a_step_with_the_evaluation_that_follows_it(run: Run) -> None:
    metrics = run.metrics
    assert list(metrics.index) == [0, 1, 2] and metrics.index.name == "step"
    assert metrics["reward"].dropna().to_dict() == {1: 0.5, 2: 0.75}
    assert metrics["eval_chains_pass1"].dropna().to_dict() == {0: 0.25, 2: 0.5}


def test_samples_are_those_of_a_step(run: Run) -> None:
    assert run.samples(1)[["step", "slot"]].values.tolist() == [[1, 0], [1, 1], [1, 2]]
    assert run.samples().equals(run.samples(2))
    with pytest.raises(UserError, match="no rollouts of step 7"):
        run.samples(7)


def test_the_report_is_the_verbs_page(run: Run, tmp_path: Path) -> None:
    assert run.report() == run.folder / "report.html"
    assert "run report" in run.report(tmp_path / "page.html").read_text()
    with pytest.raises(UserError, match="cannot be written"):
        run.report(tmp_path / "none" / "page.html")


def test_flags_summary_and_export_are_those_of_the_folder(run: Run) -> None:
    assert run.flags["hybrid.preset"] == "prefix_rft" and run.summary == {}
    with pytest.raises(UserError, match="holds no export"):
        run.export  # noqa: B018
    (run.folder / "export").mkdir()
    assert run.export == run.folder / "export"  # the flag names where the folder was before it was moved


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for wrong, words in ((tmp_path / "none", "there is no folder"), (tmp_path, "is no run folder")):
        with pytest.raises(UserError, match=words):
            Run(wrong)


def test_a_comparison_has_the_last_line_of_every_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results.jsonl"):
        Comparison(tmp_path)
    lines = [{"run": "a", "failed": "x"}, {"run": "b", "seconds": 2.0}, {"run": "a", "seconds": 1.0}]
    (tmp_path / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (tmp_path / "table.md").write_text("| a |\n")
    compared = Comparison(tmp_path)
    assert compared.results.set_index("run")["seconds"].to_dict() == {"a": 1.0, "b": 2.0}
    assert compared.table == "| a |\n"
