r"""Kills parts of a training run with SIGKILL, starts the same command again, and compares with a run left alone.

    python benchmarks/reliability.py --kills 30 --out /tmp/reliability

Needs .cache/quickstart (scripts/quickstart.sh makes it). Each run has --steps steps and a checkpoint every second one.
Parts and moments take turns:

    parts      controller, trainer rank, engine actor, vLLM's engine process
    moments    rollout or training (at random), save (a checkpoint is being written), boundary (one was just finished)

After the death of a controller or trainer rank the command must end with an exit code other than 0 within two minutes;
after that of an engine it must go on. The command is started again until it ends with 0; then its export must equal,
byte for byte, that of the run left alone, and so must the losses of all steps. Prints the table of
docs/80-reliability.md and exits with 1 where anything was not as it must be. Kills of finished runs are kept in
kills.json: the same command goes on with the others.
"""

import argparse
import atexit
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
# Ray names a process after its class while it waits, and after upstream's while it runs one of upstream's methods.
PARTS = {
    "controller": ("ray::PrefixController", "ray::PPOTrainer"),
    "trainer rank": ("ray::PrefixPolicy", "ray::PolicyModelActor"),
    "engine": ("ray::PrefixRollout", "ray::RolloutRayActor"),
    "engine process": ("VLLM::EngineCore",),
}
MOMENTS = ("random", "save", "boundary")
EVERY = 2  # steps between two checkpoints
END_SECONDS = 120  # until a run whose controller or trainer died has to be over
RUN_SECONDS = 600  # until anything else counts as hung


@dataclass
class Kill:
    part: str
    moment: str
    step: int = 0  # the last finished one
    code: int = 0  # of the command; 0: the run went on by itself
    seconds: float = 0.0  # from the kill to the end of the command
    resumed: int | None = None  # the step that the next start went on after
    identical: bool = False  # export and losses of the finished run

    def wrong(self) -> list[str]:
        """What was not as it must be."""
        found = []
        if self.part in ("controller", "trainer rank"):
            found += ["exit code 0"] * (self.code == 0)
            found += [f"ended after {self.seconds:.0f} s"] * (self.seconds > END_SECONDS)
        if self.lost() > EVERY:
            found.append(f"lost {self.lost()} steps")
        return found + ["another result than the run left alone"] * (not self.identical)

    def lost(self) -> int:
        """Finished steps that had to be done again."""
        return 0 if self.resumed is None else max(0, self.step - self.resumed)


class Run:
    """One run folder, and the command that starts or resumes it."""

    def __init__(self, folder: Path, steps: int, flags: list[str]) -> None:
        self.folder = folder
        self.process: subprocess.Popen | None = None
        self.seen: set[psutil.Process] = set()  # of all starts; psutil knows a process from a later one of its number
        sizes = {"data.max_samples": 8 * steps, "rollout.batch_size": 8, "rollout.n_samples_per_prompt": 4}
        batch = {"train.batch_size": 32, "train.micro_batch_size": 16, "eval.steps": -1, "run.eval_at_start": "false"}
        settings = {**sizes, **batch, "ckpt.save_steps": EVERY, "run.dir": folder}
        given = [f"--{name}={value}" for name, value in settings.items()]
        verb = ["-W", "ignore", "-m", "openrlhf_prefix.cli", "train", "--config", "configs/quickstart.yaml"]
        self.command = [sys.executable, *verb, *given, "--eval.dataset=", "--ckpt.load_enable", *flags]

    def start(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        log = (self.folder.parent / f"{self.folder.name}.log").open("a")
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def processes(self) -> list[psutil.Process]:
        """What is alive of this run: the command, Ray below it, its workers, vLLM below those."""
        if self.process.poll() is None:
            command = psutil.Process(self.process.pid)
            self.seen |= {command, *command.children(recursive=True)}
        return [process for process in self.seen if alive(process)]

    def parts(self, titles: tuple[str, ...]) -> list[psutil.Process]:
        """Processes of this run whose title starts with one of `titles`."""
        return [process for process in self.processes() if titled(process).startswith(titles)]

    def stop(self) -> None:
        """Kills whatever of this run is still there."""
        for process in self.processes():
            process.kill()

    def step(self) -> int:
        """The last finished step."""
        return max((row["step"] for row in self.rows() if "policy_loss" in row), default=0)

    def rows(self) -> list[dict]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def checkpoints(self) -> set[str]:
        return {path.name for path in (self.folder / "checkpoints" / "_actor").glob("global_step*")}

    def saving(self) -> bool:
        return any((self.folder / "checkpoints" / "_actor").glob(".partial_*/*"))

    def wait_for(self, what: str, condition: Callable[[], object]) -> bool:
        """False where the command ended before."""
        deadline, looked = time.time() + RUN_SECONDS, 0.0
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.time() > deadline:
                raise SystemExit(f"no {what} within {RUN_SECONDS} s: see {self.folder}.log")
            if time.time() > looked + 1.0:
                self.processes()  # so that all are known when the command is gone
                looked = time.time()
            time.sleep(0.01)
        return True

    def end(self) -> int:
        """Waits for the end of the command and of all its processes; returns its exit code."""
        code = self.process.wait(RUN_SECONDS)
        deadline = time.time() + 30
        while self.processes() and time.time() < deadline:
            time.sleep(0.2)
        for process in self.processes():
            raise SystemExit(f"left behind 30 s after the end: {process.pid} {titled(process)}")
        return code

    def resumed_after(self) -> int:
        """The step after which the last start went on."""
        found = [line for line in self.log().splitlines() if line.startswith("resumed after step ")]
        return int(found[-1].rsplit(" ", 1)[1]) if found else 0

    def log(self) -> str:
        """What the last start printed."""
        return (self.folder.parent / f"{self.folder.name}.log").read_text().rpartition("starting engines")[2]

    def result(self) -> tuple[dict[str, bytes], list]:
        """The files of the export, and loss and gradient of every step."""
        export = {path.name: path.read_bytes() for path in sorted((self.folder / "export").iterdir())}
        steps = [row for row in self.rows() if "policy_loss" in row]
        return export, [(row["step"], row["policy_loss"], row["actor_grad_norm"]) for row in steps]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def titled(process: psutil.Process) -> str:
    """The command line, which Ray and vLLM change to say what a process is."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def strike(run: Run, kill: Kill, dice: random.Random) -> bool:
    """Waits for the moment and kills the part; False where the run was over before."""
    before, begun = run.checkpoints(), run.step()
    if kill.moment == "save":
        found = run.wait_for("save", run.saving)
    elif kill.moment == "boundary":
        found = run.wait_for("checkpoint", lambda: run.checkpoints() - before)
    else:
        found = run.wait_for("step", lambda: run.step() > begun)
        time.sleep(dice.uniform(0.0, 3.0))
    victims = run.parts(PARTS[kill.part])
    if not found or run.process.poll() is not None:
        return False
    kill.step = run.step()
    if not victims:
        raise SystemExit(f"found no {kill.part} among {[titled(process)[:40] for process in run.processes()]}")
    dice.choice(victims).kill()
    return True


def to_the_end(run: Run, waiting: list[Kill], dice: random.Random) -> list[Kill]:
    """Starts the command until it ends with 0, with a kill in every start while there are some; returns those."""
    struck: list[Kill] = []
    atexit.register(run.stop)
    while True:
        run.start()
        hit = bool(waiting) and strike(run, waiting[0], dice)
        killed = time.time()
        code = run.end()
        if struck and struck[-1].code and struck[-1].resumed is None:
            struck[-1].resumed = run.resumed_after()
        if hit:
            struck.append(waiting.pop(0))
            struck[-1].code, struck[-1].seconds = code, time.time() - killed
            print(f"{struck[-1]}", flush=True)
        if code == 0:
            return struck
        if not hit:
            raise SystemExit(f"a start without a kill ended with {code}: see {run.folder}.log")


def campaign(out: Path, kills: list[Kill], steps: int, seed: int, flags: list[str]) -> list[Kill]:
    """All kills, over as many runs as that takes, with what became of each."""
    alone, kept = Run(out / "alone", steps, flags), out / "kills.json"
    done = [Kill(**fields) for fields in json.loads(kept.read_text())] if kept.exists() else []
    if not done and to_the_end(alone, [], random.Random(seed)):
        raise AssertionError("the run left alone was not left alone")
    waiting, dice = kills[len(done) :], random.Random(f"{seed} {len(done)}")
    while waiting:
        run = Run(out / f"killed{len(done) + 1}", steps, flags)
        shutil.rmtree(run.folder, ignore_errors=True)  # of a call that was ended
        struck = to_the_end(run, waiting, dice)
        same = run.result() == alone.result()
        for kill in struck:
            kill.identical = same
        done += struck
        kept.write_text(json.dumps([asdict(kill) for kill in done], indent=1) + "\n")
    return done


def table(kills: list[Kill]) -> str:
    """One line for every part and moment."""
    lines = [
        "| killed | moment | kills | went on by itself | ended, longest | steps lost, most | same result |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for part, moment in sorted({(kill.part, kill.moment) for kill in kills}):
        group = [kill for kill in kills if (kill.part, kill.moment) == (part, moment)]
        ended = [kill.seconds for kill in group if kill.code]
        longest = f"{len(ended)}, {max(ended):.0f} s" if ended else "0"
        lost, same = max(kill.lost() for kill in group), sum(kill.identical for kill in group)
        went_on = len(group) - len(ended)
        lines.append(f"| {part} | {moment} | {len(group)} | {went_on} | {longest} | {lost} | {same} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=6, help="of every run")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART:MOMENT", help="these in turn, not all")
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or that of a call that was ended")
    options, flags = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pairs = [tuple(pair.split(":")) for pair in options.only] or list(itertools.product(PARTS, MOMENTS))
    kills = [Kill(*pair) for pair in itertools.islice(itertools.cycle(pairs), options.kills)]
    kills = campaign(options.out.absolute(), kills, options.steps, options.seed, flags)
    print(table(kills))
    wrong = [f"{kill.part} at {kill.moment}: {what}" for kill in kills for what in kill.wrong()]
    print("\n".join(wrong) or f"all {len(kills)} kills as they must be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
