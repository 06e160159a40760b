"""The embedded task: chains of single-digit operations, read from left to right, modulo 10.

    prompt          Left to right, modulo 10: 7+4*3-8
    demonstration   7+4=1 / 1*3=3 / 3-8=5 / \\boxed{5}      (one step a line, each with its intermediate value)
    answer          5

Guessing the last digit is right little more than one time in ten, working through the steps every time: a policy
that learns to write the steps is visibly better, which is what demonstrations are for. `TASKS` names the task
writers; another one with the same signature and the same rows can be put beside this one.
"""

import operator
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from openrlhf_prefix.data.task_files import write_parts

INSTRUCTION = "Left to right, modulo 10: "
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
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


def split(
    train: int, heldout: int, seed: int, min_operations: int, max_operations: int, tune: int = 0, longer: int = 0
) -> dict[str, list[Problem]]:
    """Disjoint problems. Held-out ones are drawn first and train ones next: later parts do not change earlier ones.

    `longer` has chains of 1 to 3 operations more than any other part, from a stream of its own.
    """
    _check_size(train + heldout + tune, min_operations, max_operations)
    # A string seeds through SHA-512: the same in every process and Python version, unlike hash().
    problems = distinct_problems(Random(f"chains/{seed}"), min_operations, max_operations)
    beyond = distinct_problems(Random(f"chains/longer/{seed}"), max_operations + 1, max_operations + 3)
    parts = {
        name: list(islice(problems, size)) for name, size in (("heldout", heldout), ("train", train), ("tune", tune))
    }
    return parts | {"longer": list(islice(beyond, longer))}


def to_row(problem: Problem, identifier: str, source: str = "chains") -> dict[str, Any]:
    """The row of the dataset contract, shared by all sources of demonstrations."""
    return {
        "id": identifier,
        "source": source,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "demonstrations": [problem.demonstration],
    }


def write_task(
    directory: str | Path,
    train: int = 2048,
    heldout: int = 256,
    seed: int = 0,
    min_operations: int = 3,
    max_operations: int = 6,
    tune: int = 256,
    longer: int = 256,
) -> dict[str, Path]:
    """Write train, heldout, tune and longer `.jsonl` and `task.json`, unless they are there already.

    Returns the path of each.
    """
    parameters = {
        "train": train,
        "heldout": heldout,
        "seed": seed,
        "min_operations": min_operations,
        "max_operations": max_operations,
        "tune": tune,
        "longer": longer,
    }
    sources = {"longer": "chains_longer"}
    return write_parts(
        Path(directory),
        {"task": "chains", "version": VERSION, "parameters": parameters},
        lambda: {
            name: [
                to_row(problem, f"chains-{name}-{index:05d}", sources.get(name, "chains"))
                for index, problem in enumerate(problems)
            ]
            for name, problems in split(**parameters).items()
        },
    )


TASKS: dict[str, Callable[..., dict[str, Path]]] = {"chains": write_task}
