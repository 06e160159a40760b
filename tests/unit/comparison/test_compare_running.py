"""Jobs are run once, what failed ends no other, and what a kill left half done is done again."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from openrlhf_prefix.comparison import processes as processes_module
from openrlhf_prefix.comparison import running
from openrlhf_prefix.comparison.commands import Job
from openrlhf_prefix.comparison.plan import Plan, Run, Task
from openrlhf_prefix.comparison.processes import CommandFailed, Processes
from openrlhf_prefix.comparison.results import Results
from openrlhf_prefix.report.run_folder import RunFolder

PLAN = Plan(
    train="base.yaml",
    tasks={"t": Task("tune.jsonl", {"heldout": "h.jsonl"})},
    methods={"a": {}, "b": {}},
    learning_rates=[1e-4],
    seeds=[1, 2, 3],
)


class Stack:
    """In the place of Processes: writes what a training or an evaluation would leave behind."""

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.commands: list[tuple[str, str]] = []
        self.failing = failing

    def run(self, arguments: Sequence[str], log: Path, seconds: float) -> None:
        verb, folder = arguments[0], Path(arguments[-1])
        self.commands.append((verb, folder.name))
        if folder.name in self.failing:
            raise CommandFailed("out of memory")
        folder.mkdir(parents=True, exist_ok=verb == "evaluate")  # a training wants a new folder
        if verb == "evaluate":
            row = {"problems": 1, "avg": 0.5, "interval": [0, 1], "pass": {"1": 0.5}}
            (folder / "evaluation.json").write_text(json.dumps({"datasets": [row]}))
            return
        step = {"step": 1, "timing/step_total": 1.0, "rollout/tokens_generated": 3.0, "train/tokens": 2.0}
        RunFolder(folder).append("metrics", [step, {"step": 1, "eval_chains_pass1": 0.25}])
        RunFolder(folder).write_summary({"steps": 1})

    def stop(self) -> None:
        pass


def job(folder: Path, method: str, seed: int, settings: str = "s") -> Job:
    run = Run("final", "t", method, 1e-4, seed)
    place = folder / "runs" / run.name
    return Job(run, place, ("train", str(place)), ("evaluate", str(place)), settings, 1)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stack:
    made = Stack()
    monkeypatch.setattr(running, "Processes", lambda at_once: made)
    return made


def go(folder: Path, jobs: list[Job]) -> Results:
    (folder / "runs").mkdir(exist_ok=True)
    results = Results(folder)
    running.Runner(PLAN, results, 1).run(jobs)
    return results


def test_a_finished_run_is_never_repeated(tmp_path: Path, stack: Stack) -> None:
    Results(tmp_path).add({"run": "t-a-lr1e-4-seed1", "stage": "final", "settings": "s", "elapsed": 60})
    results = go(tmp_path, [job(tmp_path, "a", 1), job(tmp_path, "a", 2)])
    assert stack.commands == [("train", "t-a-lr1e-4-seed2"), ("evaluate", "t-a-lr1e-4-seed2")]
    line = results.lines["t-a-lr1e-4-seed2"]
    assert line["sets"]["heldout"]["avg"] == 0.5 and line["curve"] == [[1, 0.25]] and line["tokens_trained"] == 2.0
    assert (line["method"], line["seed"], line["lr"], line["stage"]) == ("a", 2, 1e-4, "final")


def test_a_half_finished_training_is_done_again_and_a_finished_one_is_only_evaluated(
    tmp_path: Path, stack: Stack
) -> None:
    half, trained, other = (job(tmp_path, "a", seed) for seed in (1, 2, 3))
    for left in (half, trained, other):
        left.folder.mkdir(parents=True)
        (left.folder / "metrics.jsonl").write_text("")
        RunFolder(left.folder).write_summary({"steps": 1})
    (trained.folder / running.TRAINED).write_text("s")
    (other.folder / running.TRAINED).write_text("of other settings")
    go(tmp_path, [half, trained, other])
    assert [verb for verb, name in stack.commands if name.endswith("seed2")] == ["evaluate"]
    for name in ("seed1", "seed3"):
        assert [verb for verb, run in stack.commands if run.endswith(name)] == ["train", "evaluate"]


def test_a_failed_run_is_recorded_ends_no_other_and_is_tried_again(tmp_path: Path, stack: Stack) -> None:
    stack.failing = ["t-a-lr1e-4-seed1"]
    results = go(tmp_path, [job(tmp_path, "a", 1), job(tmp_path, "b", 1)])
    assert results.failed()["t-a-lr1e-4-seed1"]["failed"] == "out of memory"
    assert list(results.finished()) == ["t-b-lr1e-4-seed1"]
    stack.failing = []
    assert len(go(tmp_path, [job(tmp_path, "a", 1), job(tmp_path, "b", 1)]).finished()) == 2
    assert [name for verb, name in stack.commands if verb == "train"].count("t-b-lr1e-4-seed1") == 1


def test_progress_is_one_line_a_run(tmp_path: Path, stack: Stack, capsys: pytest.CaptureFixture) -> None:
    """1 base and 2 x 3 final runs are planned; after the first one, which took no time, six are left."""
    go(tmp_path, [job(tmp_path, "a", 1), job(tmp_path, "a", 2)])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "[1/7] t-a-lr1e-4-seed1: 50.0% in 0 s | about 0 s left" and second.startswith("[2/7] ")


def test_the_time_left_by_hand() -> None:
    """Tuning takes 100 s, final runs (200 + 400) / 2 = 300 s, a base is not known: (100 + 200 + 400) / 3 = 233.3 s.
    3 * 100 + 2 * 300 + 233.3 = 1133.3, by two at once 566.7."""
    done = [{"stage": "tune", "elapsed": 100}, {"stage": "final", "elapsed": 200}, {"stage": "final", "elapsed": 400}]
    remaining = {"tune": 3, "final": 2, "base": 1}
    assert running.time_left(done, remaining, 2) == pytest.approx(566.67, abs=0.01)
    assert running.time_left([], remaining, 2) == 0.0


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (90, "2 min"), (3540, "59 min"), (11100, "3 h 05 min")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert running.minutes(seconds) == text


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run this file in the place of the command line."""
    path = tmp_path / "script.py"
    monkeypatch.setattr(processes_module, "COMMAND", (sys.executable, str(path)))
    return path


def test_the_reason_of_a_failure_is_the_commands_own_sentence(tmp_path: Path, script: Path) -> None:
    script.write_text("import sys; print('openrlhf-prefix: stopped: no memory'); print('bye'); sys.exit(1)")
    with pytest.raises(CommandFailed, match="train ended with exit code 1: stopped: no memory; see .*a.log"):
        Processes().run(["train"], tmp_path / "a.log", 60)
    script.write_text("1 / 0")
    with pytest.raises(CommandFailed, match="exit code 1: ZeroDivisionError: division by zero; see"):
        Processes().run(["train"], tmp_path / "a.log", 60)


def test_a_command_that_hangs_is_ended(tmp_path: Path, script: Path) -> None:
    script.write_text("import time; time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="evaluate took more than 0.01 minutes"):
        Processes().run(["evaluate"], tmp_path / "a.log", 0.6)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(("given", "at_once", "seen"), [(None, 1, None), (None, 10**6, "1"), ("3", 10**6, "3")])
def test_commands_at_once_share_the_cores(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, at_once: int, seen: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    script.write_text("import os; print(os.environ.get('OMP_NUM_THREADS'))")
    Processes(at_once).run(["train"], tmp_path / "a.log", 60)
    assert (tmp_path / "a.log").read_text() == f"{seen}\n"


def test_nothing_starts_after_a_stop(tmp_path: Path, script: Path) -> None:
    script.write_text(f"open({str(tmp_path / 'started')!r}, 'w')")
    stopped = Processes()
    stopped.stop()
    with pytest.raises(CommandFailed, match="stopped"):
        stopped.run(["train"], tmp_path / "a.log", 60)
    assert not (tmp_path / "started").exists()
