"""Runs layouts in one process per rank, and compares each with the reference.

openrlhf-prefix exactness                                 the table: largest relative difference per layout
openrlhf-prefix exactness --upstream                      the same rows through OpenRLHF's own training loop
openrlhf-prefix exactness --upstream --cut_short          and a last optimizer step with fewer rows

difference = |change - reference| / |reference|           (L2 over all parameters)
"""

import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from tqdm import tqdm

from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.runtime.audit.exactness.batch import (
    STEP_ROWS,
    Row,
    Terms,
    load_model,
    make_model,
    make_rows,
    reference_change,
    shuffled_within_steps,
)
from openrlhf_prefix.runtime.audit.exactness.layouts import Layout, all_layouts, table, upstream_layouts
from openrlhf_prefix.runtime.platform import adapter

TOLERANCE = 1e-5

Case = tuple[Layout, Terms]
Tensors = dict[str, torch.Tensor]


def parser() -> Parser:
    parser = parser_of("exactness", "Every layout of an optimizer step against a reference, on rows made up for it.")
    parser.add_argument("--upstream", action="store_true", help="OpenRLHF's own training loop, on whole steps")
    parser.add_argument("--cut_short", action="store_true", help="with --upstream: a last step of half the rows too")
    return parser


def main(argv: Sequence[str]) -> None:
    """The `exactness` verb; SystemExit(1) where our loop misses the tolerance."""
    options = parser().parse_args(argv)
    rows = STEP_ROWS if options.upstream and not options.cut_short else None
    layouts = upstream_layouts() if options.upstream else all_layouts()
    found = measure(layouts, upstream=options.upstream, rows=rows)
    print(table(found))
    worst = max(found, key=found.__getitem__)
    print(f"\n{len(found)} layouts; largest relative difference {found[worst]:.1e} ({worst.name()})")
    if not options.upstream and not found[worst] <= TOLERANCE:
        sys.exit(1)


def measure(
    layouts: Sequence[Layout], terms: Terms | None = None, upstream: bool = False, rows: int | None = None
) -> dict[Layout, float]:
    """Relative difference of every layout; starts one process per rank.

    Args:
        terms: of the loss; not given: all of them where no row leaves its step, and those that leave rows out where
            one does. OpenRLHF's own loop counts prefix tokens in every term, so `upstream` has the policy alone.
        upstream: train through OpenRLHF's ActorPPOTrainer as it is.
        rows: use the first rows only; STEP_ROWS of them are exactly one optimizer step.
    """
    policy = Terms(kl_coef=0.0, entropy_coef=None, correction=not upstream)
    cases = [(layout, terms or (policy if layout.skipping or upstream else Terms())) for layout in layouts]
    found = measure_cases(cases, upstream, rows)
    return {case[0]: found[case] for case in cases}


def measure_cases(cases: Sequence[Case], upstream: bool = False, rows: int | None = None) -> dict[Case, float]:
    """The same for pairs of a layout and terms of the loss."""
    found: dict[Case, float] = {}
    adapter.choose()  # here, where a refusal is a sentence
    with tempfile.TemporaryDirectory() as folder:
        for tied in (False, True):
            make_model(_model(Path(folder), tied), tied)
        worlds = {}
        for ranks in sorted({layout.ranks for layout, _ in cases}):
            chosen = [case for case in cases if case[0].ranks == ranks]
            result = Path(folder) / f"{ranks}.pt"
            job = (ranks, free_port(), Path(folder), chosen, upstream, rows, result)
            worlds[result] = torch.multiprocessing.spawn(_rank, args=job, nprocs=ranks, join=False)
        for result, processes in worlds.items():
            while not processes.join():
                pass
            found |= torch.load(result, weights_only=False)
    return found


def _rank(
    rank: int,
    ranks: int,
    port: int,
    folder: Path,
    cases: list[Case],
    upstream: bool,
    count: int | None,
    result: Path,
) -> None:
    """One training process: all cases of this number of ranks, one after the other."""
    adapter.choose()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= adapter.current().engine_environment()  # nothing is compiled on a CPU
    torch.set_num_threads(1)
    with (
        (folder / f"{ranks}-{rank}.log").open("w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        adapter.current().install()
        adapter.current().patch_trainer()
        found = _compare(cases, folder, upstream, count)
    if rank == 0:
        torch.save(found, result)
    torch.distributed.destroy_process_group()


def _model(folder: Path, tied: bool) -> Path:
    return folder / ("tied" if tied else "untied")


def _compare(cases: list[Case], folder: Path, upstream: bool, count: int | None) -> dict[Case, float]:
    """Relative difference of each case, on this rank."""
    from openrlhf_prefix.runtime.audit.exactness.training import (
        train,  # imports OpenRLHF, which wants the platform first
    )

    found = {}
    shown = sys.__stderr__ if sys.__stderr__.isatty() and os.environ["RANK"] == "0" else None
    references: dict[tuple[bool, Terms], tuple[list[Row], Tensors, Tensors]] = {}
    for layout, terms in tqdm(cases, desc=f"{cases[0][0].ranks} rank(s)", file=shown, disable=shown is None):
        model, key = _model(folder, layout.tied), (layout.tied, terms)
        if key not in references:
            references[key] = _reference(model, terms, count)
        rows, before, wanted = references[key]
        ordered = shuffled_within_steps(rows, seed=3) if layout.reordered else rows
        after = train(layout, model, ordered, terms, upstream)
        size = sum(value.square().sum() for value in wanted.values()).sqrt()
        error = sum((after[name] - before[name] - wanted[name]).square().sum() for name in wanted).sqrt()
        found[layout, terms] = float(error / size)
    return found


def _reference(model: Path, terms: Terms, count: int | None) -> tuple[list[Row], Tensors, Tensors]:
    """The first `count` rows, the parameters before, and the change that the rows must cause."""
    rows = make_rows(load_model(model), terms.whole, terms.on_policy)[:count]
    before = {name: value.detach() for name, value in load_model(model).named_parameters()}
    return rows, before, reference_change(load_model(model), rows, terms)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]
