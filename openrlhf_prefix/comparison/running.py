"""Runs jobs, some at once; every one that ended is a line of results.jsonl and a line for whoever watches."""

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from openrlhf_prefix.comparison.commands import EVALUATION, Job
from openrlhf_prefix.comparison.plan import BASE, FINAL, TUNE, Plan
from openrlhf_prefix.comparison.processes import CommandFailed, Processes
from openrlhf_prefix.comparison.results import Line, Results, evaluation_line, training_line

TRAINED = "settings.txt"  # in the run folder once the training ended well: the digest of its settings


class Runner:
    """Runs the jobs of one comparison, `at_once` at a time."""

    def __init__(self, plan: Plan, results: Results, at_once: int) -> None:
        self.plan, self.results, self.at_once = plan, results, at_once
        self.planned = {BASE: len(plan.bases()), TUNE: len(plan.tuning()), FINAL: plan.finals()}
        self.ended = Counter(line["stage"] for line in results.finished().values())

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs the jobs that are not finished yet. One that fails has a line of its own and ends no other."""
        waiting = [job for job in jobs if job.run.name not in self.results.finished()]
        processes = Processes(self.at_once)
        pool = ThreadPoolExecutor(self.at_once)
        try:
            for future in as_completed([pool.submit(self._line, job, processes) for job in waiting]):
                line = future.result()
                self.results.add(line)
                self.ended[line["stage"]] += 1
                print(self._progress(line), flush=True)
        finally:  # an interrupt leaves no process behind
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()

    def _line(self, job: Job, processes: Processes) -> Line:
        """Does everything for one run; the line that tells of it."""
        started = time.monotonic()
        run = job.run
        line = {"run": run.name, "task": run.task, "method": run.method, "stage": run.stage, "lr": run.lr}
        line |= {"seed": run.seed, "settings": job.settings}
        try:
            self._carry_out(job, processes)
            line |= training_line(job.folder, job.sampled) | {"optimizer_steps": job.steps} if job.train else {}
            line |= evaluation_line(job.folder / EVALUATION, self.plan.tasks[run.task].sets) if job.evaluate else {}
        except CommandFailed as failed:
            line["failed"] = str(failed)
        return line | {"elapsed": round(time.monotonic() - started, 1)}

    def _carry_out(self, job: Job, processes: Processes) -> None:
        """Training and evaluation. What a killed comparison left half done is done again from its start."""
        log, marker, limit = job.folder.with_suffix(".log"), job.folder / TRAINED, 60 * self.plan.minutes
        if job.train and not (marker.exists() and marker.read_text() == job.settings):
            shutil.rmtree(job.folder, ignore_errors=True)
            processes.run(job.train, log, limit)
            marker.write_text(job.settings)
        job.folder.mkdir(parents=True, exist_ok=True)  # the base model's holds its evaluation alone
        if job.evaluate:
            processes.run(job.evaluate, log, limit)

    def _progress(self, line: Line) -> str:
        """One ended run.

        Example: [7/24] chains-sft-lr1e-4-tune0: 45.2% in 3 min | about 55 min left
        """
        said = f"failed: {line['failed']}" if "failed" in line else f"{score(line):.1%}"
        remaining = {stage: max(0, count - self.ended[stage]) for stage, count in self.planned.items()}
        left = time_left(self.results.finished().values(), remaining, self.at_once)
        number = f"[{sum(self.ended.values())}/{sum(self.planned.values())}]"
        return f"{number} {line['run']}: {said} in {minutes(line['elapsed'])} | about {minutes(left)} left"


def score(line: Line) -> float:
    """Accuracy that a run is told by: on its first held-out set, or of a tuning run on the problems for tuning."""
    return next(iter(line["sets"].values()))["avg"] if "sets" in line else line["curve"][-1][1]


def time_left(finished: Iterable[Line], remaining: Mapping[str, int], at_once: int) -> float:
    """Seconds that the remaining runs of each stage will take, as long as the finished ones took.

    A stage without a finished run is taken for an average one.
    """
    seconds: dict[str, list[float]] = {}
    for line in finished:
        seconds.setdefault(line["stage"], []).append(line["elapsed"])
    known = [value for values in seconds.values() for value in values]
    if not known:
        return 0.0
    means = {stage: statistics.fmean(seconds.get(stage, known)) for stage in remaining}
    return sum(means[stage] * count for stage, count in remaining.items()) / at_once


def minutes(seconds: float) -> str:
    """Example: 40 s, 12 min, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"
