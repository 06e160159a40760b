"""report.html beside a run: no step waits for it, and nothing that happens to it ends the run."""

import time
from pathlib import Path

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime.controller.about import hardware
from openrlhf_prefix.runtime.controller.live_report import LiveReport


def written(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.append("metrics", [{"step": 1, "reward": 0.5}])
    return folder


def ended(report: LiveReport) -> None:
    assert report.process
    report.process.wait(60)


def test_a_refresh_starts_a_page_and_returns_before_it_is_there(tmp_path: Path) -> None:
    written(tmp_path)
    report = LiveReport(tmp_path, 60.0)
    assert report.refresh() is None and not (tmp_path / "report.html").exists()
    ended(report)
    assert "run report" in (tmp_path / "report.html").read_text()


def test_within_its_seconds_it_is_made_once_and_at_the_end_again(tmp_path: Path) -> None:
    folder, report = written(tmp_path), LiveReport(tmp_path, 60.0)
    report.refresh()
    ended(report)
    first = (tmp_path / "report.html").read_text()
    folder.append("metrics", [{"step": 2, "reward": 0.5}])
    assert report.refresh() is None and report.process is None
    assert report.finish() is None
    last = (tmp_path / "report.html").read_text()
    assert '"step":2' in last and '"step":2' not in first


def test_a_second_one_waits_for_the_first(tmp_path: Path) -> None:
    written(tmp_path)
    report = LiveReport(tmp_path, 0.001)
    report.refresh()
    running = report.process
    time.sleep(0.01)
    report.refresh()
    assert report.process is running
    report.finish()


def test_a_page_that_costs_much_is_made_less_often(tmp_path: Path) -> None:
    """Python alone takes more than 0.05 s of a core: the next is due a second later at the earliest, not at once."""
    report = LiveReport(written(tmp_path).path, 0.001)
    started = time.monotonic()
    report.refresh()
    ended(report)
    assert report.refresh() is None and report.process is None and report.due > started + 1.0


def test_a_failure_is_said_once_for_each_reason_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of which nothing can be shown, twice, then a page that cannot be put in its place."""
    monkeypatch.setattr("openrlhf_prefix.runtime.controller.live_report.PATIENCE", 0.0)
    report = LiveReport(tmp_path, 0.001)
    report.refresh()
    ended(report)
    said = report.refresh()
    assert said and said.startswith("warning: report.html was not made (") and "is no run folder" in said
    ended(report)
    assert report.refresh() is None and report.failed == 2
    ended(report)
    report.refresh()
    ended(report)
    written(tmp_path)
    (tmp_path / "report.html").mkdir()
    assert "cannot be written" in str(report.finish())


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrlhf_prefix.runtime.controller.live_report.LAST_SECONDS", 0.01)
    written(tmp_path)
    said = LiveReport(tmp_path, 60.0).finish()
    assert said and "took more than 0.01 s" in said


def test_a_python_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrlhf_prefix.runtime.controller.live_report.sys.executable", str(tmp_path / "gone"))
    assert "No such file" in str(LiveReport(written(tmp_path).path, 60.0).refresh())


def test_zero_seconds_make_none(tmp_path: Path) -> None:
    report = LiveReport(tmp_path, 0.0)
    assert report.refresh() is None and report.finish() is None and report.process is None


def test_the_hardware_in_words() -> None:
    node = {"CPU": 64.0, "GPU": 8.0, "accelerator_type:H200": 1.0}
    assert hardware([node, node], real=True) == "2 nodes, 16 x H200"
    assert hardware([{"GPU": 4.0}, node], real=True) == "2 nodes, 4 x GPU, 8 x H200"
    assert hardware([{"GPU": 4.0}], real=False).endswith(" CPU cores, no GPU")
