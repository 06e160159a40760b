"""Files to evaluate on, as tasks: ours, and the benchmark files of LUFFY and verl as they are.

    {"prompt": "1+2?", "answer": "3"}                                                           the row contract
    {"data_source": "aime", "prompt": [{"role": "system", ..}, {"role": "user", "content": ..}],
     "ability": "math", "reward_model": {"ground_truth": "204", "style": "rule"}, "extra_info": {..}}     a benchmark

A task is a file, or all rows of one source of it: of a benchmark file, and of rows of the contract whose sources are
all known benchmarks (`data import` makes such). In those, rows that are equal in source, question and gold are one
problem: LUFFY's file asks each problem of AIME 32 times with one sample a row, where we draw 32 samples of it. A
benchmark file's system message is left out, as LUFFY's own script does: a template brings one
(evaluation/templates.py).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openrlhf_prefix.data.faults import refuse
from openrlhf_prefix.data.files import iterate
from openrlhf_prefix.data.formats import FORMATS
from openrlhf_prefix.data.messages import Messages
from openrlhf_prefix.data.problems import check_ids, identifier, read_rows
from openrlhf_prefix.data.rows import Columns, Row, lookup, parse
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.evaluation import benchmarks, choices

GOLD = "reward_model.ground_truth"
OWN_COLUMNS = ("data_source", "reward_model", "ability")  # by which a benchmark file is told from one of ours


@dataclass(frozen=True)
class Question:
    """One problem of a task; its id is the same wherever in whichever file it stands."""

    id: str
    row: Row


@dataclass(frozen=True)
class Task:
    """What gets a score of its own.

    Example: Task("aime", "valid.all.parquet", (30 questions), repeats=32, moved=0, choices=False).
    """

    name: str
    file: str
    questions: tuple[Question, ...]
    repeats: int = 1  # equal rows of each problem, the fewest
    moved: int = 0  # questions whose options were shuffled
    choices: bool = False  # multiple choice

    def fingerprint(self) -> str:
        """Of ids, questions and golds in their order: 16 hex digits."""
        parts = [[question.id, question.row.prompt, question.row.answer] for question in self.questions]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_tasks(names: Iterable[str], columns: Columns, limit: int, shuffle: bool, split: str = "train") -> list[Task]:
    """The tasks of all files, in their order.

    Args:
        columns: of files in the row contract.
        limit: problems of a task, the first ones.
        shuffle: the options of multiple choice.
        split: of a folder of `datasets` or a hub name.

    Raises:
        UserError: nothing to read, or rows that cannot be used, with their numbers.
    """
    tasks: list[Task] = []
    places: dict[str, str] = {}
    for name in names:
        first = next(iterate(name, split, 1), None)
        raw = first[1] if first else {}
        if isinstance(raw, dict) and lookup(raw, columns.answer) is None and any(key in raw for key in OWN_COLUMNS):
            tasks += _by_source(name, _benchmark_rows(name, split))
            continue
        rows = read_rows(name, split, limit, columns)
        if all(benchmarks.known(row.source) for row in rows):
            tasks += _by_source(name, rows)
        else:
            check_ids(name, rows, places)
            tasks.append(Task(Path(name).stem, name, tuple(Question(identifier(name, row), row) for row in rows)))
    tasks = [replace(task, questions=task.questions[:limit]) for task in tasks]
    return _named_apart([_with_choices(task, shuffle) for task in tasks])


def _benchmark_rows(name: str, split: str) -> Iterator[Row]:
    """Rows of a file in verl's layout. UserError with everything that is wrong with them."""
    bad: list[str] = []
    for number, raw in iterate(name, split):
        made: Any = raw if isinstance(raw, str) else FORMATS["verl"](raw)
        if isinstance(raw, dict) and not raw.get("data_source"):
            made = "has nothing in column 'data_source', which names the benchmark"
        if isinstance(made, str):
            bad.append(f"row {number} {made}")
            continue
        row = parse(number, made[0], Columns(demonstrations=None), bad)
        if row is None:
            continue
        prompt = without_system(row.prompt)
        if not prompt:
            bad.append(f"row {number} has no message of the user in column 'prompt'")
        yield replace(row, prompt=prompt)
    refuse(name, bad)


def without_system(prompt: str | Messages) -> str | Messages:
    """A prompt of messages without those of the system."""
    return prompt if isinstance(prompt, str) else [message for message in prompt if message["role"] != "system"]


def _by_source(name: str, rows: Iterable[Row]) -> list[Task]:
    """A task for every source, with each problem once."""
    found: dict[str, dict[str, Row]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        source = str(row.source)
        text = json.dumps([source, row.prompt, row.answer])
        key = f"{source.rpartition('/')[2]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        found.setdefault(source, {}).setdefault(key, row)
        counts[key] = counts.get(key, 0) + 1
    return [
        Task(
            benchmarks.known(source) or source.replace("/", "-"),
            name,
            tuple(Question(key, row) for key, row in questions.items()),
            repeats=min(counts[key] for key in questions),
        )
        for source, questions in found.items()
    ]


def _with_choices(task: Task, shuffle: bool) -> Task:
    """A task of multiple choice with the options in their drawn order."""
    known = benchmarks.known(task.name)
    if known is None or not benchmarks.BENCHMARKS[known].choices:
        return task
    if not shuffle:
        return replace(task, choices=True)
    moved = [_shuffled(question) for question in task.questions]
    questions = tuple(new or old for new, old in zip(moved, task.questions, strict=True))
    return replace(task, questions=questions, moved=sum(new is not None for new in moved), choices=True)


def _shuffled(question: Question) -> Question | None:
    prompt = question.row.prompt
    asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    found = choices.shuffled(asked, question.row.answer.strip())
    if found is None:
        return None
    text, gold = found
    new = text if isinstance(prompt, str) else [*prompt[:-1], {**prompt[-1], "content": text}]
    return replace(question, row=replace(question.row, prompt=new, answer=gold))


def _named_apart(tasks: list[Task]) -> list[Task]:
    """Tasks of one name carry their file's name as well."""
    names = [task.name for task in tasks]
    named = [
        replace(task, name=f"{Path(task.file).stem}-{task.name}") if names.count(task.name) > 1 else task
        for task in tasks
    ]
    known = [task.name for task in named]
    if twice := next((name for name in known if known.count(name) > 1), None):
        raise UserError(f"two of the files make a task {twice!r}: give each a name of its own, or leave one out")
    return named
