"""The embedded task: chains of single-digit operations, read from left to right, modulo 10.

    prompt          Left to right, modulo 10: 7+4*3-8
    demonstration   7+4=1 / 1*3=3 / 3-8=5 / \\boxed{5}      (one step a line, each with its intermediate value)
    answer          5

Guessing the last digit is right little more than one time in ten, working through the steps every time: a policy
that learns to write the steps is visibly better, which is what demonstrations are for. `TASKS` names the task
writers; another one with the same signature and the same rows can be put beside this one.
"""

import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

INSTRUCTION = "Left to right, modulo 10: "
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
MANIFEST = "task.json"
VERSION = 1  # to be raised when the same parameters would no longer give the same rows


class Problem(NamedTuple):
    """One chain: a first digit, then (operator, digit) pairs."""

    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        return f"{INSTRUCTION}{self.first}" + "".join(f"{symbol}{digit}" for symbol, digit in self.operations)

    @property
    def steps(self) -> list[tuple[int, str, int, int]]:
        """(value so far, operator, digit, new value), one a step."""
        steps, value = [], self.first
        for symbol, digit in self.operations:
            result = OPERATORS[symbol](value, digit) % 10
            steps.append((value, symbol, digit, result))
            value = result
        return steps

    @property
    def answer(self) -> str:
        return str(self.steps[-1][-1])

    @property
    def demonstration(self) -> str:
        lines = [f"{value}{symbol}{digit}={result}" for value, symbol, digit, result in self.steps]
        return "\n".join([*lines, f"\\boxed{{{self.answer}}}"])


def draw_problem(rng: Random, min_operations: int, max_operations: int) -> Problem:
    """One problem; the number of operations (the difficulty) is uniform over the two bounds, both included."""
    count = rng.randint(min_operations, max_operations)
    operations = tuple((rng.choice("+-*"), rng.randrange(10)) for _ in range(count))
    return Problem(rng.randrange(10), operations)


def distinct_problems(rng: Random, min_operations: int, max_operations: int) -> Iterator[Problem]:
    """Endless problems without repetition (it spins forever once all of them were drawn: see `_check_size`)."""
    seen: set[Problem] = set()
    while True:
        problem = draw_problem(rng, min_operations, max_operations)
        if problem not in seen:
            seen.add(problem)
            yield problem


def _check_size(rows: int, min_operations: int, max_operations: int) -> None:
    if not 1 <= min_operations <= max_operations:
        raise ValueError(
            f"min_operations={min_operations} and max_operations={max_operations}: "
            "1 <= min_operations <= max_operations is needed"
        )
    existing = sum(10 ** (count + 1) * 3**count for count in range(min_operations, max_operations + 1))
    if rows > existing:
        raise ValueError(f"only {existing} problems exist, {rows} rows asked for: raise max_operations")


def split(train: int, heldout: int, seed: int, min_operations: int, max_operations: int) -> dict[str, list[Problem]]:
    """Disjoint train and held-out problems. Held-out ones are drawn first, so `train` does not change them."""
    _check_size(train + heldout, min_operations, max_operations)
    # A string seeds through SHA-512: the same in every process and Python version, unlike hash().
    problems = distinct_problems(Random(f"chains/{seed}"), min_operations, max_operations)
    return {"heldout": [next(problems) for _ in range(heldout)], "train": [next(problems) for _ in range(train)]}


def to_row(problem: Problem, identifier: str) -> dict[str, Any]:
    """The row of the dataset contract, shared by all sources of demonstrations."""
    return {
        "id": identifier,
        "source": "chains",
        "prompt": problem.prompt,
        "answer": problem.answer,
        "demonstrations": [problem.demonstration],
    }


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="ascii")
    os.replace(temporary, path)


def _is_written(directory: Path, manifest: dict[str, Any]) -> bool:
    """Whether the directory holds this very task, files compared with the digests of its own manifest."""
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="ascii"))
        files = found.pop("sha256")
        intact = all(hashlib.sha256((directory / name).read_bytes()).hexdigest() == files[name] for name in files)
    except (OSError, ValueError, KeyError):
        return False
    return intact and found == manifest


def write_task(
    directory: str | Path,
    train: int = 2048,
    heldout: int = 256,
    seed: int = 0,
    min_operations: int = 3,
    max_operations: int = 6,
) -> dict[str, Path]:
    """Write `train.jsonl`, `heldout.jsonl` and `task.json`, unless they are there already; return their paths."""
    directory = Path(directory)
    parameters = {
        "train": train,
        "heldout": heldout,
        "seed": seed,
        "min_operations": min_operations,
        "max_operations": max_operations,
    }
    manifest = {"task": "chains", "version": VERSION, "parameters": parameters}
    names = {"train": "train.jsonl", "heldout": "heldout.jsonl", "manifest": MANIFEST}
    paths = {key: directory / name for key, name in names.items()}
    if _is_written(directory, manifest):
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, problems in split(**parameters).items():
        rows = [to_row(problem, f"chains-{name}-{index:05d}") for index, problem in enumerate(problems)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        _write_atomically(paths[name], text)
        digests[names[name]] = hashlib.sha256(text.encode("ascii")).hexdigest()
    # Last, because it vouches for the other two.
    _write_atomically(paths["manifest"], json.dumps({**manifest, "sha256": digests}, indent=2) + "\n")
    return paths


TASKS: dict[str, Callable[..., dict[str, Path]]] = {"chains": write_task}
