"""The `compare` verb, from the file of a comparison to its table and pictures."""

import argparse
import fcntl
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.comparison.commands import Job, check_jobs, make_job
from openrlhf_prefix.comparison.plan import FINAL, Plan, read_plan
from openrlhf_prefix.comparison.plots import draw
from openrlhf_prefix.comparison.results import Results
from openrlhf_prefix.comparison.running import Runner
from openrlhf_prefix.comparison.summary import choose_rate, missing
from openrlhf_prefix.comparison.table import table
from openrlhf_prefix.errors import RunStopped, UserError


def main(argv: Sequence[str]) -> str:
    """Runs what is not finished yet, then writes table.md and the pictures; returns the folder. RunStopped where a run
    failed."""
    options = _parse(argv)
    plan = read_plan(options.config)
    folder = options.folder or Path("runs") / options.config.stem
    if options.report_only:
        if not (folder / "results.jsonl").exists():
            raise UserError(f"{folder} holds no results.jsonl: check --folder, or leave --report_only out")
        report(plan, Results(folder), folder)
        return str(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end is an interrupt
    try:
        jobs = check_jobs(plan, folder / "runs")
        with alone(folder):
            run(plan, jobs, folder, options.config, options.jobs)
    except KeyboardInterrupt:
        raise RunStopped("interrupted; the same command goes on with the runs that are not finished") from None
    return str(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While the block runs no other comparison has the folder: two would do, and remove, each other's runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it, however this process ends
        except BlockingIOError:
            raise UserError(f"a comparison is running in {folder}: wait for it, or choose another --folder") from None
        yield


def run(plan: Plan, jobs: Sequence[Job], folder: Path, config: Path, at_once: int) -> None:
    """All stages, task by task, after every run that can be told in advance was checked (`jobs`)."""
    runs = folder / "runs"
    results = Results(folder)
    results.check_settings(jobs)
    runs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, folder / "compare.yaml")
    runner = Runner(plan, results, at_once)
    print(
        f"{sum(runner.planned.values())} runs, {sum(runner.ended.values())} of them finished, in {folder}", flush=True
    )
    for task in plan.tasks:  # one after the other: a comparison that is stopped leaves whole tables
        runner.run([job for job in jobs if job.run.task == task and job.run.stage != FINAL])
        chosen = {method: choose_rate(plan, results.finished(), task, method) for method in plan.compared(task)}
        final = [run for method, lr in chosen.items() if lr is not None for run in plan.final(task, method, lr)]
        last = [make_job(plan, run, runs) for run in final]
        results.check_settings(last)
        runner.run(last)
    report(plan, results, folder)
    if left := missing(plan, results.finished()):
        raise RunStopped(f"{len(left)} runs have no result ({', '.join(left)}): {folder / 'table.md'} says why")


def report(plan: Plan, results: Results, folder: Path) -> None:
    """Writes and shows the table; writes the pictures."""
    text = table(plan, results.finished(), results.failed())
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text)
    for path in [folder / "table.md", *draw(plan, results.finished(), folder)]:
        print(path)


def parser() -> Parser:
    parser = parser_of("compare", "Methods x seeds, tuned alike, in one table; goes on where it was stopped.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the comparison")
    parser.add_argument("--folder", type=Path, help="where runs and results go (default: runs/<config>)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--report_only", action="store_true", help="table and pictures of what is there; run nothing")
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    options = parser().parse_args(argv)
    if options.jobs < 1:
        raise UserError(f"--jobs is {options.jobs}: give at least 1")
    return options
