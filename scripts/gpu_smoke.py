"""What one GPU settles in ten minutes about a stack that was built without one.

    python scripts/gpu_smoke.py                       on the environment of `STACK=gpu bash scripts/setup.sh`
    python scripts/gpu_smoke.py --device cpu          the CPU form of every stage, which proves this script itself
    python scripts/gpu_smoke.py pack FOLDER           where there is a network: what a bare GPU machine lacks
    python scripts/gpu_smoke.py --carry FOLDER        and there: Python 3.12, torch, transformers and peft are enough

Eight stages, each in a process of its own (scripts/gpu/, docs/gpu.md). A stage that breaks is a row of the table, with
its trace in the log, and the next one runs. Exit code 1 where a stage failed, or none could run; 2 for a mistake in
the arguments.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from gpu import carry, run, stage  # noqa: E402

from openrlhf_prefix.errors import UserError  # noqa: E402


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--quick", action="store_true", help="on a CPU: as small as a test wants it")
    made.add_argument("--carry", type=Path, help="the folder that `pack` made")
    made.add_argument("--out", type=Path, default=Path(".cache/gpu_smoke"), help="folder of table, JSON and log")
    made.add_argument("--seconds", type=float, help="of all stages together (570 on a GPU)")
    made.add_argument("--only", type=int, nargs="*", help="numbers of stages; those that they need run, too")
    verbs = made.add_subparsers(dest="verb")
    verbs.add_parser("pack", help="make the folder for --carry").add_argument("folder", type=Path)
    one = verbs.add_parser("stage")  # how the stages are started
    for name, kind in (("function", str), ("device", str), ("work", Path), ("seconds", float), ("result", Path)):
        one.add_argument(name, type=kind)
    return made


def main() -> int:
    given = parser().parse_args()
    if given.verb == "pack":
        carry.pack(given.folder)
        return 0
    if given.verb == "stage":
        setting = stage.Setting(given.device, given.quick, given.work, given.seconds)
        stage.run_here(given.function, setting, given.result)
    seconds = given.seconds or run.SECONDS[given.device]
    options = run.Options(given.device, given.quick, given.carry, given.out, seconds)
    needed = {one.after for one in run.STAGES if one.number in (given.only or ())}
    chosen = [one for one in run.STAGES if not given.only or one.number in given.only or one.name in needed]
    return run.run(options, chosen)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
