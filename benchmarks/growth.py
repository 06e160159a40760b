"""How the cost of a step grows when its rows, the length of a response, or the ranks double.

    python benchmarks/growth.py --size 15m

An exponent of 1 is a cost in proportion, 0 none. Rows: what is below 1 is the fixed share of a step. Length: attention
adds to 1. Ranks share the same rows; on one machine they share its cores too, so that 0 is the best there is.
"""

import argparse
import copy
import math
import sys
import tempfile
from pathlib import Path

import step

PHASES = ("generation", "make_experience", "ppo_train", "broadcast", "step_total")


def main() -> None:
    parser = step.arguments()
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp())).absolute()
    cases: dict[str, argparse.Namespace] = {}
    for name, changed in {
        "as it is": {},
        "rows": {"problems": 2 * options.problems},
        "length": {"tokens": 2 * options.tokens},
        "ranks": {"ranks": 2},
    }.items():
        cases[name] = copy.copy(options)
        vars(cases[name]).update(changed)
    found = {}
    for name, case in cases.items():
        place = folder / name.replace(" ", "_")
        step.make_inputs(place, case)
        found[name] = step.ours(place, case, 0)
        print(f"{name} done", file=sys.stderr, flush=True)
    print(f"| {options.size}, {options.preset} | {' | '.join(PHASES)} |")
    print("| --- " * (1 + len(PHASES)) + "|")
    base = [found["as it is"][f"timing/{phase}"] for phase in PHASES]
    print(f"| seconds as it is | {' | '.join(f'{value:.2f}' for value in base)} |")
    for name in list(cases)[1:]:
        doubled = [found[name][f"timing/{phase}"] for phase in PHASES]
        exponents = [math.log2(after / before) for after, before in zip(doubled, base, strict=True)]
        print(f"| exponent, {name} doubled | {' | '.join(f'{value:.2f}' for value in exponents)} |")


if __name__ == "__main__":
    main()
