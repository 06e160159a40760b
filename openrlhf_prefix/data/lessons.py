"""What an embedded model is warmed up on: endless problems of its task, none of them held out, and their tokenizer."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from transformers import Qwen2Tokenizer

from openrlhf_prefix.data.families import FAMILIES
from openrlhf_prefix.data.gym import rows as gym
from openrlhf_prefix.data.gym.solvers import MISTAKEN, mistaken
from openrlhf_prefix.data.tasks import MANIFEST, Family, split
from openrlhf_prefix.data.tiny_tokenizer import learn_tokenizer, make_tokenizer

WORDS, TEXTS = 768, 1000  # tokens of a vocabulary that is learnt, and the problems that it is learnt from


class Lesson(NamedTuple):
    """One problem and the two styles of answer: with the work, and without."""

    prompt: str
    worked: str
    guess: str


@dataclass(frozen=True)
class Lessons:
    task: str
    tokenizer: Callable[[], Qwen2Tokenizer]
    drawn: Iterator[Lesson]
    identity: dict[str, Any]  # what they depend on, beside the seed


def lessons_of(task_directory: Path | None, seed: int, rng: Random) -> Lessons:
    """Lessons of a written task, or of the default one; `rng` draws a family's, `seed` places reasoning-gym's."""
    if task_directory is None:
        family = FAMILIES["chains"]
        heldout = split(family, 0, 256, 0, *family.operations)["heldout"]
        return _of_family(family, {problem.prompt for problem in heldout}, family.operations, rng)
    manifest = json.loads((task_directory / MANIFEST).read_text(encoding="ascii"))
    task, parameters = manifest["task"], manifest["parameters"]
    heldout_file = task_directory / "heldout.jsonl"
    if task.startswith(gym.PREFIX):
        return _of_gym(task, parameters, gym.questions([str(heldout_file)]), seed)
    prompts = {json.loads(line)["prompt"] for line in heldout_file.read_text(encoding="ascii").splitlines()}
    bounds = (parameters["min_operations"], parameters["max_operations"])
    return _of_family(FAMILIES[task], prompts, bounds, rng)


def _of_family(family: Family, excluded: set[str], bounds: tuple[int, int], rng: Random) -> Lessons:
    def drawn() -> Iterator[Lesson]:
        while True:
            problem = family.draw(rng, *bounds)
            if problem.prompt not in excluded:
                yield Lesson(problem.prompt, problem.worked(), problem.guess)

    identity = {"operations": list(bounds), "excluded": _digest(excluded)}
    return Lessons(family.name, lambda: make_tokenizer(family.instruction), drawn(), identity)


def _of_gym(task: str, parameters: dict[str, Any], excluded: set[str], seed: int) -> Lessons:
    name, settings = task.removeprefix(gym.PREFIX), parameters["settings"]
    start = parameters["seed"] + gym.SIZE * (1 + seed)  # beyond the walk that the task was drawn from

    def drawn() -> Iterator[Lesson]:
        rng = Random(start)
        dataset = gym.create(name, settings, start)
        for index in range(dataset.size):  # unlike rows of a file they may come again
            entry = dataset[index]
            if gym.question_key(entry["question"]) not in excluded:
                row = gym.to_row(name, str(index), entry, dataset)
                (worked,) = row["demonstrations"]
                # A guess ends where a mistake leads: small problems could be learnt without the work.
                guessed = mistaken(name, json.loads(row["entry"]), rng, False) if name in MISTAKEN else worked
                yield Lesson(row["prompt"][0]["content"], worked, guessed.splitlines()[-1])

    def tokenizer() -> Qwen2Tokenizer:
        return learn_tokenizer((f"{lesson.prompt}\n{lesson.worked}" for lesson in islice(drawn(), TEXTS)), WORDS)

    identity = {"task": task, "settings": settings, "start": start, "excluded": _digest(excluded)}
    return Lessons(task, tokenizer, drawn(), identity)


def _digest(excluded: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(excluded)).encode("utf-8")).hexdigest()
