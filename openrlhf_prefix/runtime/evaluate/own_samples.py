"""A policy's own samples of the problems of one file: pass rates, right answers as demonstrations, and their cost.

    rate of a problem    right samples / samples, judged as `evaluate` judges
    demonstrations       its right samples that ended by themselves and have something before their answer for a prefix
                         (data/cuts.py), each text once, in the order of their numbers

Samples are kept in a folder as they are judged. The same command goes on with it after a kill, and another verb or
interval reads it again without an engine. A request's seed depends on --seed, the problem's id and the sample's number
alone, so that a part of the file has the rates of the whole.
Source: RIF-RFT (arXiv 2507.05386), PrefixRL (2601.18795); see docs/35-own-samples.md.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_prefix.data.benchmark import Question, Task
from openrlhf_prefix.data.cuts import encode_with_limits
from openrlhf_prefix.data.files import check_datasets, check_exists, iterate
from openrlhf_prefix.data.problems import check_ids, identifier, read_rows
from openrlhf_prefix.data.rows import PASS_RATE, Columns
from openrlhf_prefix.data.sampled import cost_of, side_file
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation.records import Records, write_json
from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.runtime.evaluate.prepare import Prepared, model_flags, prepare_tasks
from openrlhf_prefix.runtime.evaluate.sampling import sample
from openrlhf_prefix.settings.model import load_tokenizer


@dataclass(frozen=True)
class Own:
    """The samples of all problems, and what they came to."""

    prepared: Prepared
    records: Records
    correct: dict[str, int]  # problem -> right samples

    @property
    def task(self) -> Task:
        return self.prepared.tasks[0]

    @property
    def samples(self) -> int:
        """Of every problem."""
        return self.prepared.samples[self.task.name]

    def demonstrations(self, options: argparse.Namespace) -> dict[str, list[str]]:
        """Problem -> its demonstrations; problems without one are left out."""
        found: dict[str, dict[int, str]] = defaultdict(dict)
        for line in self.records.lines(self.task.name):
            if line["score"] > 0 and line["finish"] == "stop":
                found[line["problem"]][line["sample"]] = line["completion"]
        golds = {question.id: question.row.answer for question in self.task.questions}
        pairs = [(key, text) for key, texts in found.items() for text in _distinct([texts[n] for n in sorted(texts)])]
        usable: dict[str, list[str]] = defaultdict(list)
        with MathVerifier(fallback=options.fallback) as verifier:
            texts, tokenizer = [text for _, text in pairs], load_tokenizer(model_flags(options))
            cut = encode_with_limits(tokenizer, texts, [golds[key] for key, _ in pairs], verifier)
        for (key, text), (_, limit) in zip(pairs, cut, strict=True):
            if limit > 0:
                usable[key].append(text)
        return dict(usable)


def _distinct(texts: list[str]) -> list[str]:
    """The first of those that differ in spaces alone."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(" ".join(text.split()), text)
    return list(first.values())


def draw(options: argparse.Namespace, folder: Path) -> Own:
    """Samples the problems of `options.file` that `folder` does not hold. UserError before an engine starts."""
    check_exists("--policy", options.model)
    check_datasets("FILE", options.file)
    rows = read_rows(options.file, options.split, options.max_samples, _columns(options))
    check_ids(options.file, rows, {})
    name = Path(options.file).stem
    task = Task(name, options.file, tuple(Question(identifier(options.file, row), row) for row in rows))
    prepared = prepare_tasks([task], {name: options.samples}, options)
    try:
        records = Records(folder, prepared.settings, resume=True)
    except UserError as error:
        raise UserError(f"{error}: remove the folder, or choose another --folder") from None
    sample(prepared, options, records)
    verdicts = {question.id: records.verdicts(name, question.id, options.samples) for question in task.questions}
    return Own(prepared, records, {key: sum(one.score > 0 for one in found) for key, found in verdicts.items()})


def _columns(options: argparse.Namespace) -> Columns:
    return Columns(options.input_key, options.label_key, None)


def rated_rows(own: Own, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(problem, its row of the file with all columns, the id and the pass rate)."""
    rows = iterate(options.file, options.split, options.max_samples)
    for question, (_, raw) in zip(own.task.questions, rows, strict=True):
        assert isinstance(raw, dict)  # read_rows() has refused all others
        rate = own.correct[question.id] / own.samples
        yield question.id, {**raw, "id": question.id, PASS_RATE: rate}


def as_line(row: dict[str, Any], options: argparse.Namespace) -> str:
    try:
        return json.dumps(row) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{options.file}: the row with id {row['id']!r} cannot be written as JSON ({error}): leave that column out"
        ) from None


def write_side_file(target: Path, own: Own, options: argparse.Namespace, written: int, **more: Any) -> dict[str, Any]:
    """Writes what the file cost and returns it."""
    lines = list(own.records.found.values())
    before = cost_of(options.file)
    seconds = sum(line["seconds"] for line in own.records.lines(own.task.name))
    found = {
        **more,
        "file": options.file,
        "policy": options.model,
        "settings": own.prepared.settings,
        "problems": len(own.correct),
        "written": written,
        "rates": {str(right): count for right, count in sorted(Counter(own.correct.values()).items())},
        "tokens_generated": before.tokens + sum(line.tokens for line in lines),
        "seconds": round(before.seconds + seconds, 3),
    }
    write_json(side_file(target), found)
    return found
