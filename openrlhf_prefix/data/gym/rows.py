r"""Rows of a reasoning-gym task: problems, what its verifier reads, and demonstrations where a solver of ours has one.

    prompt           messages: worked examples as turns of a chat (the first problems that are drawn; none in a row
                     but there), then the question and the request for a box
    answer           what reasoning-gym gives as the answer
    entry            JSON {"task", "answer", "metadata"}: what its `score_answer` reads (--data.label_key entry)
    demonstrations   steps and the answer in a box (solvers.py); none for a task without a solver

Problem i of seed s is problem i - 1 of seed s + 1 there, so that parts drawn with seeds of their own share problems.
Here all parts come from one walk over 0, 1, 2, ..., and a question that was seen before is passed over, whatever its
spaces and capitals.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from openrlhf_prefix.data.convert import Converted, new_file
from openrlhf_prefix.data.files import iterate
from openrlhf_prefix.data.gym.solvers import MISTAKEN, SOLVERS, demonstration, mistaken
from openrlhf_prefix.data.tasks import Rows, flaws, write_parts
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.pins import REASONING_GYM

NAME = "reasoning-gym"
PREFIX = f"{NAME}:"  # of a task's name where it stands beside tasks of ours
VERSION = 1  # to be raised when the same parameters would no longer give the same rows
REQUEST = "Work step by step, and write the final answer as \\boxed{answer}."
SIZE = 10**6
PATIENCE = 1000  # problems in a row that were all seen before: there are no more
# Difficulties at which SmolLM2-135M-Instruct is right now and then; what is not named is reasoning-gym's own.
SETTINGS: dict[str, dict[str, Any]] = {}


def rows(
    task: str, settings: dict[str, Any], seed: int, shots: int = 0, seen: set[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Endless different rows, `shots` examples before each question; `seen` holds questions to pass over, and grows.

    Raises:
        UserError: the package, the task or a setting is not there; no new problem is found; or an example has no
            demonstration.
    """
    dataset, seen, old = create(task, settings, seed), set() if seen is None else seen, 0
    examples: list[dict[str, str]] = []
    for index in range(dataset.size):
        entry = dataset[index]
        key = question_key(entry["question"])
        old = old + 1 if key in seen else 0
        if old == PATIENCE:
            break
        if not old:
            seen.add(key)
            row = to_row(task, f"{task}-{seed}-{index}", entry, dataset)
            if len(examples) < 2 * shots:
                examples += _example(row)
            else:
                yield {**row, "prompt": [*examples, *row["prompt"]]}
    raise UserError(
        f"{NAME}:{task} has no more than {len(seen)} different problems with {settings}: ask for fewer rows"
    )


def _example(row: dict[str, Any]) -> list[dict[str, str]]:
    if not row["demonstrations"]:
        raise UserError(f"{NAME}:{row['source']} has no demonstrations to show as examples: leave --shots out")
    return [*row["prompt"], {"role": "assistant", "content": row["demonstrations"][0]}]


def question_key(text: str) -> str:
    """By which questions are the same ones: without regard to spaces and capitals."""
    return " ".join(text.split()).lower()


def to_row(task: str, identifier: str, entry: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """The row of an entry; its own answer scores 1 after the entry was JSON, or it is refused."""
    answer = entry["answer"]
    metadata = json.loads(json.dumps(entry["metadata"], default=str))
    kept = {"task": task, "answer": answer, "metadata": metadata}
    if not isinstance(answer, str) or dataset.score_answer(answer, {"question": entry["question"], **kept}) < 1:
        raise UserError(
            f"{NAME}:{task}: problem {identifier} does not accept its own answer {answer!r}: choose another task"
        )
    worked = demonstration(task, {**entry, "metadata": metadata})
    return {
        "id": identifier,
        "source": task,
        "prompt": [{"role": "user", "content": f"{entry['question'].strip()}\n{REQUEST}"}],
        "answer": answer,
        "entry": json.dumps(kept),
        "demonstrations": [] if worked is None else [worked],
    }


def create(task: str, settings: dict[str, Any], seed: int) -> Any:
    """reasoning-gym's own data set. Raises UserError."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(f"{NAME} is not installed ({error}): pip install reasoning-gym=={REASONING_GYM}") from None
    if task not in DATASETS:
        known = (
            f"with demonstrations: {', '.join(SOLVERS)}; without: {', '.join(sorted(set(DATASETS) - set(SOLVERS)))}"
        )
        raise UserError(f"{NAME} has no task {task!r}. It has, {known}")
    try:
        return reasoning_gym.create_dataset(task, seed=seed, size=SIZE, **{**SETTINGS.get(task, {}), **settings})
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"{NAME}:{task} does not take {settings}: {error}") from None


def parsed(settings: list[str]) -> dict[str, Any]:
    """KEY=VALUE words, values as JSON where they are JSON. Raises UserError."""
    found = {}
    for word in settings:
        key, sign, value = word.partition("=")
        if not key or not sign:
            raise UserError(f"--set {word}: write KEY=VALUE, as in --set max_terms=4")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def write_task(
    directory: Path,
    task: str,
    settings: dict[str, Any],
    seed: int,
    shots: int,
    slips: float = 0.0,
    systematic: bool = False,
    **sizes: int,
) -> dict[str, Path]:
    """`part`.jsonl of every part in `sizes`, drawn in that order, and task.json, unless they are there already.

    Of the training problems the share `slips` is demonstrated with a slip, or with the `systematic` habit. Raises
    UserError for a task that cannot be.
    """
    if slips and task not in MISTAKEN:
        raise UserError(f"--slips: of the tasks of {NAME}, {', '.join(MISTAKEN)} can be demonstrated with mistakes")

    def make() -> dict[str, Rows]:
        drawn, rng = rows(task, settings, seed, shots), Random(f"{task}/slips/{seed}")
        parts = {part: [next(drawn) for _ in range(size)] for part, size in sizes.items()}
        for row in parts["train"]:
            if rng.random() < slips:
                row["demonstrations"] = [mistaken(task, json.loads(row["entry"]), rng, systematic)]
        return parts

    parameters = {
        "settings": {**SETTINGS.get(task, {}), **settings},
        "seed": seed,
        "shots": shots,
        NAME: REASONING_GYM,
        **flaws(slips, systematic),
        **sizes,
    }
    return write_parts(directory, {"task": f"{PREFIX}{task}", "version": VERSION, "parameters": parameters}, make)


def read(name: str) -> Rows:
    """Rows that were drawn here. Raises UserError for other ones."""
    found = [row for _, row in iterate(name)]
    if not all(isinstance(row, dict) and "entry" in row and isinstance(row.get("prompt"), list) for row in found):
        raise UserError(f"{name} holds other rows than those of `data import {NAME}`: their questions are unknown")
    return found  # type: ignore[return-value]


def questions(names: list[str]) -> set[str]:
    """The keys of the questions that files of rows ask. Raises UserError."""
    return {
        question_key(row["prompt"][-1]["content"].removesuffix(f"\n{REQUEST}")) for name in names for row in read(name)
    }


def import_rows(
    task: str, target: Path, count: int, seed: int, settings: dict[str, Any], shots: int, without: list[str]
) -> Converted:
    """Writes `count` rows to `target`; questions of the files in `without` are passed over. Raises UserError."""
    made, seen = Converted(), questions(without)
    with new_file(target) as out:
        drawn = rows(task, settings, seed, shots, seen)
        for _ in range(count):
            row = next(drawn)
            out.write(json.dumps(row) + "\n")
            made.rows += 1
            made.demonstrations += len(row["demonstrations"])
            made.bare += not row["demonstrations"]
    return made
