"""`openrlhf-prefix report RUN ...`: one HTML file that explains itself, or a live view of it on this machine."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.page import page, write
from openrlhf_prefix.report.payload import payload
from openrlhf_prefix.report.reading import read_runs
from openrlhf_prefix.report.samples import BUDGET

NAME = "report.html"
MOST_RUNS = 8  # as many colours as can be told apart


def parser() -> Parser:
    parser = parser_of("report", "Curves and coloured samples of one run, or of several over each other, in one file.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders")
    parser.add_argument("--output", type=Path, help=f"the file; not set: {NAME} in the run folder, for several here")
    parser.add_argument("--megabytes", type=float, default=BUDGET / 1e6, help="of samples, at the most")
    parser.add_argument("--serve", action="store_true", help="a live view at http://127.0.0.1, until Ctrl-C")
    parser.add_argument("--port", type=int, default=8321, help="of --serve; 0 takes a free one")
    return parser


def main(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    _check(options)
    if options.serve:
        from openrlhf_prefix.report.serve import serve

        serve(options.runs, options.port, _budget(options))
        return
    output = options.output or (options.runs[0] / NAME if len(options.runs) == 1 else Path(NAME))
    size = make(options.runs, output, _budget(options))
    print(f"{output} ({size / 1e6:.1f} MB): open it in a browser")


def make(runs: list[Path], output: Path, budget: int) -> int:
    """Writes the page of the runs, with at most `budget` characters of samples; returns its length."""
    try:
        text = page(payload(read_runs(runs), budget))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): see whose it is") from None
    try:
        write(text, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}): give another --output") from None
    return len(text)


def _budget(options: argparse.Namespace) -> int:
    return int(options.megabytes * 1e6)


def _check(options: argparse.Namespace) -> None:
    if len(options.runs) > MOST_RUNS:
        raise UserError(f"{len(options.runs)} runs, and {MOST_RUNS} can be told apart in one picture: name fewer")
    if not 0 <= options.megabytes <= 1000:
        raise UserError(f"--megabytes {options.megabytes:g} is not between 0 and 1000")
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port {options.port} is no port: one of 1024 to 65535, or 0 for a free one")


if __name__ == "__main__":
    import os
    import sys

    os.nice(10)  # runtime/controller/live_report.py starts it beside a training, which comes first
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
