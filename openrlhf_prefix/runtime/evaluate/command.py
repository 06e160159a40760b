"""Options of `evaluate`, and its steps: prepare, sample, sum up, compare; checks come before an engine starts."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openrlhf_prefix
from openrlhf_prefix import pins
from openrlhf_prefix.arguments import Parser, parser_of
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation import results
from openrlhf_prefix.evaluation.records import Records, write_json
from openrlhf_prefix.evaluation.scores import score_line, scores
from openrlhf_prefix.runtime.evaluate import against, divergence
from openrlhf_prefix.runtime.evaluate.divergence import GIVEN, SAMPLED
from openrlhf_prefix.runtime.evaluate.options import add_engine, add_reading, add_sampling, check_sampling
from openrlhf_prefix.runtime.evaluate.prepare import Prepared, prepare
from openrlhf_prefix.runtime.evaluate.sampling import sample


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Prints one line: of one task avg@n and pass@k with their intervals, of several each one's metric and error;
    returns what evaluate() does."""
    return evaluate(_parse(argv))


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """What --output has in results_<time>.json, and with --against "comparison" beside it.

    Raises:
        UserError: before an engine starts.
    """
    prepared = prepare(options)
    bases = against.find(options, prepared) if options.against else None
    request = divergence.prepare(options, bases.model) if bases and options.kl_prompts else None
    records = Records(options.output, prepared.settings, options.resume)
    base = against.evaluate_base(bases, options, parser()) if bases else None
    moved = divergence.measure(request) if request else None
    started = time.time()
    sample(prepared, options, records)
    correct, found = _summed_up(prepared, records, options)
    found["config_general"]["seconds"] = round(time.time() - started, 1)
    _write(options, "results", found)
    datasets = _datasets(prepared, correct, options)
    if len(prepared.tasks) == 1:
        print(score_line(datasets[0], prepared.samples[prepared.tasks[0].name]))
    else:
        print(results.line(found["results"]))
    if options.json:
        record = {"model": options.model, "samples": options.samples, "datasets": datasets}
        options.json.write_text(json.dumps(record) + "\n", encoding="utf-8")
    if bases and base:
        record, text = against.compared(found, base, bases, options)
        found |= {"comparison": record | ({"kl": moved} if moved else {})}
        _write(options, "comparison", found["comparison"])
        print(f"\nagainst {bases.model}\n{text}")
        if moved:
            print(f"KL(base || now) {moved['per_token']:.4f} nats a token, responses {moved['responses']}")
    return found


def _write(options: argparse.Namespace, name: str, found: dict[str, Any]) -> None:
    if options.output:
        write_json(options.output / f"{name}_{time.strftime('%Y-%m-%dT%H-%M-%S')}.json", found)


def _summed_up(
    prepared: Prepared, records: Records, options: argparse.Namespace
) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """(task -> right samples of its problems, the file of results)."""
    tasks, correct = {}, {}
    for task in prepared.tasks:
        count = prepared.samples[task.name]
        verdicts = [records.verdicts(task.name, question.id, count) for question in task.questions]
        tasks[task.name] = results.task_result(verdicts, options.k or [count])
        correct[task.name] = [sum(verdict.score > 0 for verdict in row) for row in verdicts]
    versions = {"openrlhf_prefix": openrlhf_prefix.__version__}
    versions |= {package.name: package.found for package in pins.installed() if package.found}
    return correct, {
        "config_general": {**prepared.settings, "max_len": prepared.max_len, "versions": versions},
        "results": results.with_means(tasks),
        "problems": {
            task.name: dict(zip((question.id for question in task.questions), correct[task.name], strict=True))
            for task in prepared.tasks
        },
    }


def _datasets(prepared: Prepared, correct: dict[str, list[int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """For --json: a record a file; where a file's tasks differ in samples, one for each of them."""
    found = []
    for name in options.datasets:
        tasks = [task.name for task in prepared.tasks if task.file == name]
        whole = len({prepared.samples[task] for task in tasks}) == 1
        for group in [tasks] if whole else [[task] for task in tasks]:
            count = prepared.samples[group[0]]
            flat = [value for task in group for value in correct[task]]
            found.append({"dataset": name if whole else group[0], **scores(flat, count, options.k or [count])})
    return found


def parser() -> Parser:
    parser = parser_of("evaluate", "An HF folder on files of problems, sampled by vLLM: avg@n, pass@k, what changed.")
    parser.add_argument("model", metavar="MODEL", help="HF folder or hub name")
    parser.add_argument(
        "datasets", nargs="+", metavar="DATASET", help="file of problems: ours, LUFFY's or verl's parquet, a hub name"
    )
    parser.add_argument(
        "--samples", type=int, help="responses to every problem; without it as papers do: 32 of AIME and AMC; else 4"
    )
    parser.add_argument("--k", nargs="+", type=int, help="of pass@k; at most --samples, which is the default")
    add_sampling(parser, temperature=0.6)
    add_reading(parser)
    parser.add_argument(
        "--choices", choices=["shuffled", "as_is"], default="shuffled", help="options of multiple choice"
    )
    _add_comparing(parser)
    parser.add_argument("--output", type=Path, help="folder for results, and a line a sample as it is judged")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds; the same settings")
    parser.add_argument("--json", type=Path, help="file for the numbers, those of every problem among them")
    add_engine(parser)
    return parser


def _add_comparing(parser: Parser) -> None:
    parser.add_argument(
        "--against", nargs="+", default=[], help="base, a model or results; then results of models between it and now"
    )
    parser.add_argument(
        "--learned", nargs="+", default=[], help="tasks of the newest training: not counted as forgotten"
    )
    parser.add_argument("--kl_prompts", help="file of training prompts, for KL(base || now) on them")
    parser.add_argument("--kl_problems", type=int, default=64, help="of them, the first ones")
    parser.add_argument("--kl_tokens", type=int, default=512, help="of a response, at most")
    parser.add_argument(
        "--kl_responses", choices=[SAMPLED, GIVEN], default=SAMPLED, help="by the base, or the file's demonstrations"
    )
    parser.add_argument("--kl_demonstrations_key", default="demonstrations", help="column of the given responses")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    options = parser().parse_args(argv)
    check_sampling(options)
    if not all(k >= 1 for k in options.k or ()):
        raise UserError(f"pass@k needs k >= 1: --k is {options.k}")
    if (options.learned or options.kl_prompts) and not options.against:
        raise UserError("--learned and --kl_prompts compare with a base: name it with --against")
    if options.kl_problems < 1 or options.kl_tokens < 1:
        raise UserError("--kl_problems and --kl_tokens are at least 1")
    if options.resume and not options.output:
        raise UserError("--resume goes on with a folder: name it with --output")
    if options.json and not options.json.parent.is_dir():
        raise UserError(f"--json {options.json}: there is no folder {options.json.parent}")
    return options
