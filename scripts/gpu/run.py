"""The stages one after the other, each in a process of its own: what breaks one leaves the others their turn.

flash-attn's build runs beside the others, and what needs it comes last. A stage that is not done in time is killed;
one whose stage before it did not run is skipped.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gpu import build, carry
from gpu.report import Report, Row, facts
from openrlhf_prefix import machine

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "scripts" / "gpu_smoke.py"
SECONDS = {"cuda": 570.0, "cpu": 1800.0}  # of all stages together
SPARE = 5.0  # seconds in which a stage that ends itself in time does so


@dataclass(frozen=True)
class Stage:
    number: int
    name: str
    function: str  # package.module.function
    seconds: float  # after which it is killed
    after: str | None = None  # a stage without which this one cannot run
    beside: bool = False  # runs while the others do


BUILD = "flash-attn, compiled"
STAGES = (
    Stage(1, "fused Adam", "gpu.adam.run", 150),
    Stage(2, BUILD, "gpu.build.run", 450, beside=True),
    Stage(3, "three steps", "gpu.learner.train", 150),
    Stage(4, "sleep, save, resume", "gpu.learner.resume", 120, after="three steps"),
    Stage(5, "weights by CUDA IPC", "gpu.ipc.run", 90),
    Stage(7, "head", "gpu.head.run", 120),
    Stage(8, "bf16 numerics", "gpu.numerics.run", 150),
    Stage(6, "flash-attn, packed", "gpu.attention.run", 90, after=BUILD),
)


@dataclass(frozen=True)
class Options:
    device: str  # "cuda" or "cpu"
    quick: bool
    carried: Path | None
    out: Path
    seconds: float  # of all stages together


def run(options: Options, stages: Sequence[Stage] = STAGES) -> int:
    """Runs the stages; exit code 0 where none failed and one ran. Raises UserError before the first."""
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="gpu_smoke_", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        if options.carried:
            carry.unpack(options.carried, work)
        report = Report(options.out, facts(options.device, options.quick, work / "site"))
        with Runner(options, work) as runner:
            _run_all(stages, runner, report)
    print(f"\n{report.table()}\n\n{options.out}: results.json, table.md, log.txt", flush=True)
    return report.exit_code()


def _run_all(stages: Sequence[Stage], runner: "Runner", report: Report) -> None:
    blind = runner.options.device == "cuda" and not machine.find_gpus()
    why, todo = machine.why_no_gpu() if blind else "", list(stages)
    while todo or runner.running:
        for stage in list(todo):
            waits = stage.after in {one.name for one in [*todo, *(job.stage for job in runner.running)]}
            if waits or not (stage.beside or runner.has_room()):
                continue
            todo.remove(stage)
            if reason := why or _lacking(stage, report) or runner.too_late():
                report.add(Row(stage.number, stage.name, "skipped", 0.0, reason))
            else:
                runner.start(stage)
        if runner.running:
            report.add(*runner.finish(runner.first_done()))


def _lacking(stage: Stage, report: Report) -> str:
    before = report.state(stage.after)
    return f"stage {stage.after!r} {before}" if before not in (None, "ok") else ""


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through the blocks that end what was started


@dataclass
class Job:
    stage: Stage
    process: subprocess.Popen
    started: float
    ends: float
    log: Path
    result: Path


class Runner:
    """Starts stages as processes of this command; leaving the block ends those that still run."""

    def __init__(self, options: Options, work: Path) -> None:
        self.options, self.work = options, work
        self.deadline = time.monotonic() + options.seconds
        self.running: list[Job] = []

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error: object) -> None:
        for job in list(self.running):
            self._kill(job)

    def too_late(self) -> str:
        """Why no further stage is started; empty where there is time."""
        late = time.monotonic() + SPARE > self.deadline
        return f"the {self.options.seconds:.0f} s of the run are over" if late else ""

    def has_room(self) -> bool:
        """One stage has the GPU for itself; on a CPU two share the time, where little is computed and much loaded."""
        at_once = 1 if self.options.device == "cuda" else 2
        return sum(not job.stage.beside for job in self.running) < at_once

    def first_done(self) -> Job:
        """Waits for the first stage that ended, or whose time is over."""
        while True:
            for job in self.running:
                if job.process.poll() is not None or time.monotonic() > job.ends:
                    return job
            time.sleep(0.05)

    def start(self, stage: Stage) -> None:
        now = time.monotonic()
        seconds = min(stage.seconds, self.deadline - now)
        log, result = (self.work / f"stage{stage.number}.{kind}" for kind in ("log", "json"))
        quick = ["--quick"] if self.options.quick else []
        given = [stage.function, self.options.device, str(self.work), f"{max(1.0, seconds - SPARE)}", str(result)]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(COMMAND), *quick, "stage", *given],
                env=self._environment(stage),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(Job(stage, process, now, now + seconds, log, result))

    def finish(self, job: Job) -> tuple[Row, str]:
        """Row and log of a stage that ended, or that ends now."""
        code = job.process.poll()
        seconds = time.monotonic() - job.started
        self._kill(job)  # and what it left running
        log = job.log.read_text(encoding="utf-8", errors="replace")
        if job.result.exists():
            found = json.loads(job.result.read_text(encoding="utf-8"))
        else:
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
            ended = f"not done after {seconds:.0f} s" if code is None else f"its process ended with exit code {code}"
            found = {"state": "failed", "seconds": seconds, "shows": f"{ended}: {last[:200]}"}
        return Row(job.stage.number, job.stage.name, **found), log

    def _kill(self, job: Job) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            os.killpg(job.process.pid, signal.SIGKILL)
        job.process.wait()
        self.running.remove(job)

    def _environment(self, stage: Stage) -> dict[str, str]:
        sites = [self.work / "flash_site"] if stage.after == BUILD else []
        paths = [*sites, self.work / "site", ROOT / "scripts", ROOT, os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "OPENRLHF_PREFIX_PLATFORM": self.options.device,
            "PYTHONPATH": os.pathsep.join(map(str, filter(None, paths))),
            "TORCH_EXTENSIONS_DIR": str(self.work / "extensions"),
            "TORCHDYNAMO_DISABLE": str(int(self.options.device == "cpu")),
            "HF_HUB_OFFLINE": "1",
        }
        return environment | build.compilers()
