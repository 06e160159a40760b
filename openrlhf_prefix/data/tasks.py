"""Embedded tasks: families of problems that are drawn without end, their parts, and the files of the parts.

    heldout   drawn first: no other part changes it
    train     drawn next
    tune      drawn last; nothing is trained or reported on it
    longer    1 to 3 operations more than any of them, from a stream of its own

The first three are disjoint. A folder is made once and found again by its manifest.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol

MANIFEST = "task.json"
Rows = list[dict[str, Any]]


Mistake = Callable[[int, str], int]  # by how much the result of step `number` (from 0), by `symbol`, is too high


@dataclass(frozen=True)
class Slip:
    """One mistake in a demonstration: step `step` is too high by `error`, modulo 10."""

    step: int
    error: int

    def __call__(self, number: int, symbol: str) -> int:
        return self.error if number == self.step else 0


def habit(number: int, symbol: str) -> int:
    """A systematic mistake: every difference is one too high."""
    return int(symbol == "-")


class Problem(Protocol):
    """Hashable, and equal to another one only if their prompts are."""

    @property
    def operations(self) -> tuple[tuple[str, int], ...]: ...  # each of them is a step

    @property
    def prompt(self) -> str: ...

    @property
    def answer(self) -> str: ...

    def worked(self, mistake: Mistake | None = None) -> str: ...  # the demonstration, which goes on from a mistake

    @property
    def guess(self) -> str: ...  # what the base model writes by habit


@dataclass(frozen=True)
class Family:
    """A kind of problems; the number of operations is the difficulty."""

    name: str
    version: int  # to be raised when the same parameters would no longer give the same rows
    instruction: str  # with which every prompt begins
    operations: tuple[int, int]  # fewest and most, both included, where nothing else is asked for
    draw: Callable[[Random, int, int], Problem]  # one problem, its number of operations between the two
    existing: Callable[[int, int], int]  # how many different problems there are at the least


def distinct_problems(family: Family, rng: Random, fewest: int, most: int) -> Iterator[Problem]:
    """Endless problems without repetition (it spins forever once all of them were drawn: see `_check_size`)."""
    seen: set[Problem] = set()
    while True:
        problem = family.draw(rng, fewest, most)
        if problem not in seen:
            seen.add(problem)
            yield problem


def split(
    family: Family,
    train: int,
    heldout: int,
    seed: int,
    min_operations: int,
    max_operations: int,
    tune: int = 0,
    longer: int = 0,
) -> dict[str, list[Problem]]:
    """Part -> problems. ValueError where so many different ones do not exist."""
    _check_size(family, train + heldout + tune, min_operations, max_operations)
    # A string seeds through SHA-512: the same in every process and Python version, unlike hash().
    problems = distinct_problems(family, Random(f"{family.name}/{seed}"), min_operations, max_operations)
    beyond = distinct_problems(family, Random(f"{family.name}/longer/{seed}"), max_operations + 1, max_operations + 3)
    sizes = {"heldout": heldout, "train": train, "tune": tune}
    parts = {name: list(islice(problems, size)) for name, size in sizes.items()}
    return parts | {"longer": list(islice(beyond, longer))}


def _check_size(family: Family, rows: int, min_operations: int, max_operations: int) -> None:
    if not 1 <= min_operations <= max_operations:
        raise ValueError(
            f"min_operations={min_operations} and max_operations={max_operations}: "
            "1 <= min_operations <= max_operations is needed"
        )
    existing = family.existing(min_operations, max_operations)
    if rows > existing:
        raise ValueError(f"only {existing} problems exist, {rows} rows asked for: raise max_operations")


def slipped(problem: Problem, rng: Random) -> str:
    """A demonstration with one slip that leads to a wrong answer (not every one does: times 0 forgives it)."""
    right = problem.worked().splitlines()[-1]
    while True:  # a slip in the last step always does
        text = problem.worked(Slip(rng.randrange(len(problem.operations)), rng.randrange(1, 10)))
        if text.splitlines()[-1] != right:
            return text


def to_row(problem: Problem, identifier: str, source: str, demonstration: str) -> dict[str, Any]:
    """The row of the dataset contract, shared by all sources of demonstrations."""
    return {
        "id": identifier,
        "source": source,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "demonstrations": [demonstration],
    }


def write_task(
    directory: str | Path,
    family: Family,
    train: int = 2048,
    heldout: int = 256,
    seed: int = 0,
    min_operations: int | None = None,
    max_operations: int | None = None,
    tune: int = 256,
    longer: int = 256,
    slips: float = 0.0,
    systematic: bool = False,
) -> dict[str, Path]:
    """Write a `.jsonl` for every part and `task.json`, unless they are there already; return their paths by name.

    Of the training problems the share `slips` is demonstrated with a slip (`slipped`), or with the `systematic` habit.
    ValueError outside [0, 1].
    """
    sizes = {
        "train": train,
        "heldout": heldout,
        "seed": seed,
        "min_operations": family.operations[0] if min_operations is None else min_operations,
        "max_operations": family.operations[1] if max_operations is None else max_operations,
        "tune": tune,
        "longer": longer,
    }

    rng = Random(f"{family.name}/slips/{seed}")

    def demonstration(problem: Problem, part: str) -> str:
        if part != "train" or rng.random() >= slips:
            return problem.worked()
        return problem.worked(habit) if systematic else slipped(problem, rng)

    def make() -> dict[str, Rows]:
        return {
            part: [
                to_row(
                    problem, f"{family.name}-{part}-{index:05d}", _source(family, part), demonstration(problem, part)
                )
                for index, problem in enumerate(problems)
            ]
            for part, problems in split(family, **sizes).items()
        }

    manifest = {"task": family.name, "version": family.version, "parameters": sizes | flaws(slips, systematic)}
    return write_parts(Path(directory), manifest, make)


def flaws(slips: float, systematic: bool) -> dict[str, Any]:
    """What a manifest says of them; nothing of flawless demonstrations. ValueError where slips are no share."""
    if not 0.0 <= slips <= 1.0:
        raise ValueError(f"slips={slips:g}: a share lies in [0, 1]")
    return ({"slips": slips} if slips else {}) | ({"systematic": True} if systematic else {})


def _source(family: Family, part: str) -> str:
    return f"{family.name}_longer" if part == "longer" else family.name


def write_parts(directory: Path, manifest: Mapping[str, Any], make: Callable[[], dict[str, Rows]]) -> dict[str, Path]:
    """Writes `part`.jsonl for every part that `make` gives, and `task.json`, unless they are there already.

    Args:
        manifest: task, version and all parameters: the same manifest always means the same rows.
        make: part -> rows; called only where the files have to be written.

    Returns:
        part -> path, and the manifest's path under "manifest".
    """
    path = directory / MANIFEST
    if not _is_written(directory, manifest):
        directory.mkdir(parents=True, exist_ok=True)
        digests = {}
        for part, rows in make().items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            _write_atomically(directory / f"{part}.jsonl", text)
            digests[f"{part}.jsonl"] = hashlib.sha256(text.encode("ascii")).hexdigest()
        # Last, because it vouches for the others.
        _write_atomically(path, json.dumps({**manifest, "sha256": digests}, indent=2) + "\n")
    names = json.loads(path.read_text(encoding="ascii"))["sha256"]
    return {Path(name).stem: directory / name for name in names} | {"manifest": path}


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="ascii")
    os.replace(temporary, path)


def _is_written(directory: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the directory holds this very task, files compared with the digests of its own manifest."""
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="ascii"))
        files = found.pop("sha256")
        intact = all(hashlib.sha256((directory / name).read_bytes()).hexdigest() == files[name] for name in files)
    except (OSError, ValueError, KeyError):
        return False
    return intact and found == dict(manifest)
