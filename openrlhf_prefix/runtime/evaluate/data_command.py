"""The `data` verb: what data/commands.py does without a model, and what a policy's own samples say about problems.

    data filter FILE OUT --policy MODEL --keep "0<rate"       the problems whose pass rate lies within bounds
    data collect FILE OUT --policy MODEL --samples 16         the policy's right samples as demonstrations

Both write rows of the contract with the column `pass_rate`, and beside them what the sampling cost (data/sampled.py).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openrlhf_prefix.arguments import Parser
from openrlhf_prefix.data import commands
from openrlhf_prefix.data.convert import check_target, new_file
from openrlhf_prefix.data.rates import parse_keep
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.runtime.evaluate import own_samples
from openrlhf_prefix.runtime.evaluate.options import add_engine, add_reading, add_sampling, check_sampling


def main(argv: Sequence[str]) -> None:
    """Runs one of the verbs below `data`."""
    options = parser().parse_args(argv)
    options.run(options)


def parser() -> Parser:
    return commands.parser(_add_filter, _add_collect)


def _add_filter(verbs: Any) -> None:
    verb = _sampled(verbs, "filter", "keep the problems whose pass rate by a policy lies within bounds")
    verb.set_defaults(run=_filter)
    verb.add_argument("--samples", type=int, default=8, help="responses to every problem")
    verb.add_argument("--keep", default="0<rate", help="0<rate, rate<1, 0<rate<1, 0.1<=rate<=0.9")


def _add_collect(verbs: Any) -> None:
    verb = _sampled(verbs, "collect", "a policy's own right samples as demonstrations")
    verb.set_defaults(run=_collect)
    verb.add_argument("--samples", type=int, required=True, help="responses to every problem")
    verb.add_argument(
        "--per_problem", type=int, help="demonstrations of a problem, at most; without it all that differ"
    )


def _sampled(verbs: Any, name: str, summary: str) -> Parser:
    verb = commands.below(verbs, name, summary)
    verb.add_argument("file", metavar="FILE", help="JSONL, parquet, a `datasets` folder or hub name")
    verb.add_argument("target", metavar="OUT", type=Path, help=".jsonl file to write")
    verb.add_argument(
        "--policy", dest="model", required=True, help="HF folder or hub name of the model that is sampled"
    )
    verb.add_argument("--folder", type=Path, help="of the samples; without it OUT's name with .samples")
    add_sampling(verb, temperature=1.0)
    add_reading(verb)
    add_engine(verb)
    verb.set_defaults(choices="as_is")  # a row keeps its options: it is written as it was read
    return verb


def _filter(options: argparse.Namespace) -> None:
    check_sampling(options)
    keep = parse_keep(options.keep, options.samples)
    own = _drawn(options)
    rates = [right / own.samples for right in own.correct.values()]
    told = f"{rates.count(0)} of {len(rates)} problems are never solved, {rates.count(1)} always"
    if not (kept := sum(rate in keep for rate in rates)):
        raise UserError(
            f"{options.file}: no problem has a pass rate within {keep.text!r}: {told} (the samples are in "
            f"{own.records.folder}): choose another --keep, more --samples, or another --policy"
        )
    with new_file(options.target) as out:
        for _, row in own_samples.rated_rows(own, options):
            if row["pass_rate"] in keep:
                out.write(own_samples.as_line(row, options))
    cost = own_samples.write_side_file(options.target, own, options, kept, verb="filter", keep=keep.text)
    print(f"{options.target}: {kept} of {len(rates)} problems ({keep.text}); {told}; {_cost(cost)}")


def _collect(options: argparse.Namespace) -> None:
    check_sampling(options)
    if options.per_problem is not None and options.per_problem < 1:
        raise UserError(f"--per_problem is {options.per_problem}: give at least 1")
    own = _drawn(options)
    texts = {problem: found[: options.per_problem] for problem, found in own.demonstrations(options).items()}
    if not texts:
        raise UserError(
            f"{options.file}: none of {own.samples} samples of {len(own.correct)} problems is right, ended by itself "
            f"and has something before its answer (they are in {own.records.folder}): raise --samples or "
            "--max_new_tokens, or choose another --policy"
        )
    with new_file(options.target) as out:
        for problem, row in own_samples.rated_rows(own, options):
            row["demonstrations"] = texts.get(problem, [])
            out.write(own_samples.as_line(row, options))
    cost = own_samples.write_side_file(
        options.target, own, options, len(own.correct), verb="collect", per_problem=options.per_problem
    )
    count = sum(map(len, texts.values()))
    print(f"{options.target}: {count} demonstrations of {len(texts)} of {len(own.correct)} problems; {_cost(cost)}")


def _drawn(options: argparse.Namespace) -> own_samples.Own:
    check_target(options.target)
    return own_samples.draw(options, options.folder or options.target.with_suffix(".samples"))


def _cost(found: dict[str, Any]) -> str:
    return f"{found['tokens_generated']:,} tokens generated in {found['seconds']:.1f} s"
