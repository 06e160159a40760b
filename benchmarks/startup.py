r"""Seconds from the command to the first step of the quickstart, now and at another commit, in turn.

    python benchmarks/startup.py --against d332c2f --pairs 3

Prints the medians of docs/performance.md: until the checks are over and Ray is up ("starting engines and trainers"),
and from there until engines and trainers are loaded and the first step is done. Needs .cache/quickstart
(scripts/quickstart.sh makes it).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKS = ("starting engines", "step 1/")
FLAGS = ["--data.max_samples", "16", "--eval.steps", "-1", "--run.eval_at_start", "false", "--ckpt.save_steps", "-1"]


def start(tree: Path, folder: Path) -> list[float]:
    """Seconds at which each mark was printed by the code of `tree`."""
    command = [sys.executable, "-m", "openrlhf_prefix.cli", "train", "--config", "configs/quickstart.yaml", *FLAGS]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    began, seen = time.monotonic(), []
    process = subprocess.Popen([*command, "--run.dir", str(folder)], cwd=tree, env=environment, **streams)
    for line in process.stdout:
        if len(seen) < len(MARKS) and line.startswith(MARKS[len(seen)]):
            seen.append(time.monotonic() - began)
    if process.wait() or len(seen) < len(MARKS):
        raise SystemExit(f"the run in {tree} ended with {process.returncode}")
    return [seen[0], seen[1] - seen[0], seen[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, metavar="COMMIT")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "other"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", other, options.against], cwd=ROOT, check=True)
        try:
            (other / ".cache").symlink_to(ROOT / ".cache")
            found: dict[str, list[list[float]]] = {options.against: [], "now": []}
            for pair in range(options.pairs):
                found[options.against].append(start(other, Path(name) / f"other_{pair}"))
                found["now"].append(start(ROOT, Path(name) / f"now_{pair}"))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    print("| code | checks and Ray | engines, trainers, first step | together |\n| --- | --- | --- | --- |")
    for code, runs in found.items():
        cells = [f"{statistics.median(column):.1f} s" for column in zip(*runs, strict=True)]
        print(f"| {code} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
