"""The embedded task: right answers, right demonstrations, disjoint splits, the same rows everywhere."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from openrlhf_prefix.data import chains

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"(\d)([-+*])(\d)=(\d)")


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    paths = chains.write_task(tmp_path_factory.mktemp("task"), train=300, heldout=100)
    return {name: read_rows(paths[name]) for name in ("train", "heldout")}


def recompute(prompt: str) -> str:
    """The answer by another road: Python's own arithmetic on ((7+4)*3)-8, reduced once at the end."""
    expression = prompt.removeprefix(chains.INSTRUCTION)
    count = sum(expression.count(symbol) for symbol in "+-*")
    nested = "(" * count + re.sub(r"([-+*]\d)", r"\1)", expression)
    return str(eval(nested) % 10)


def test_a_chain_worked_by_hand() -> None:
    """7+4=11 -> 1; 1*3=3; 3-8=-5 -> 5. With the usual precedence it would be 7+12-8=11 -> 1."""
    problem = chains.Problem(7, (("+", 4), ("*", 3), ("-", 8)))
    assert problem.prompt == "Left to right, modulo 10: 7+4*3-8"
    assert problem.answer == "5"
    assert problem.demonstration == "7+4=1\n1*3=3\n3-8=5\n\\boxed{5}"


def test_rows_follow_the_dataset_contract(rows: dict[str, list[dict]]) -> None:
    assert [len(rows["train"]), len(rows["heldout"])] == [300, 100]
    for row in rows["train"] + rows["heldout"]:
        assert set(row) == {"id", "source", "prompt", "answer", "demonstrations"}
        assert row["source"] == "chains" and len(row["demonstrations"]) == 1
    assert len({row["id"] for row in rows["train"] + rows["heldout"]}) == 400


def test_answers_agree_with_nested_arithmetic(rows: dict[str, list[dict]]) -> None:
    for row in rows["train"] + rows["heldout"]:
        assert row["answer"] == recompute(row["prompt"])


def test_demonstrations_work_through_the_prompt_and_end_in_the_boxed_answer(rows: dict[str, list[dict]]) -> None:
    for row in rows["train"] + rows["heldout"]:
        *lines, last = row["demonstrations"][0].split("\n")
        steps = [STEP.fullmatch(line).groups() for line in lines]
        assert all(eval(a + symbol + b) % 10 == int(result) for a, symbol, b, result in steps)
        assert all(before[3] == after[0] for before, after in pairwise(steps))
        expression = steps[0][0] + "".join(symbol + digit for _, symbol, digit, _ in steps)
        assert chains.INSTRUCTION + expression == row["prompt"]
        assert last == f"\\boxed{{{row['answer']}}}" and steps[-1][3] == row["answer"]


def test_no_problem_occurs_twice_within_or_across_splits(rows: dict[str, list[dict]]) -> None:
    prompts = [row["prompt"] for row in rows["train"] + rows["heldout"]]
    assert len(set(prompts)) == 400


def test_splits_stay_disjoint_when_every_problem_is_used() -> None:
    """One operation: 10 first digits * 3 operators * 10 digits = 300 problems, all drawn."""
    parts = chains.split(train=200, heldout=100, seed=0, min_operations=1, max_operations=1)
    assert len(set(parts["train"]) | set(parts["heldout"])) == 300


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="only 300 problems exist, 301 rows"):
        chains.split(train=201, heldout=100, seed=0, min_operations=1, max_operations=1)


@pytest.mark.parametrize("bounds", [(0, 3), (4, 3)])
def test_impossible_difficulty_is_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 <= min_operations <= max_operations"):
        chains.split(1, 1, 0, *bounds)


@pytest.mark.parametrize("bounds", [(3, 6), (2, 2), (5, 9)])
def test_difficulty_takes_every_value_between_its_bounds_and_no_other(bounds: tuple[int, int]) -> None:
    problems = chains.split(200, 0, 0, *bounds)["train"]
    assert {len(problem.operations) for problem in problems} == set(range(bounds[0], bounds[1] + 1))


def test_the_heldout_split_does_not_depend_on_the_size_of_the_train_split() -> None:
    small, large = (chains.split(train, 50, 0, 3, 6)["heldout"] for train in (10, 500))
    assert small == large


def test_another_seed_gives_other_problems() -> None:
    first, second = (set(chains.split(100, 0, seed, 3, 6)["train"]) for seed in (0, 1))
    assert len(first & second) < 10


def test_the_files_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Different PYTHONHASHSEED values reorder sets of strings; the files must not notice."""
    code = "import sys; from openrlhf_prefix.data.chains import write_task; write_task(sys.argv[1], 50, 20)"
    contents = []
    for hash_seed in ("1", "2"):
        directory = tmp_path / hash_seed
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, str(directory)], check=True, env=environment)
        contents.append({path.name: path.read_bytes() for path in directory.iterdir()})
    parts = {"train.jsonl", "heldout.jsonl", "tune.jsonl", "longer.jsonl"}
    assert set(contents[0]) == {*parts, "task.json"}
    assert contents[0] == contents[1]


def test_an_identical_task_is_kept_and_a_different_or_damaged_one_is_rewritten(tmp_path: Path) -> None:
    paths = chains.write_task(tmp_path, 20, 10)
    original = paths["train"].read_bytes()
    os.utime(paths["train"], (1, 1))
    chains.write_task(tmp_path, 20, 10)
    assert paths["train"].stat().st_mtime == 1

    paths["train"].write_text("damaged\n")
    chains.write_task(tmp_path, 20, 10)
    assert paths["train"].read_bytes() == original

    chains.write_task(tmp_path, 30, 10)
    assert len(read_rows(paths["train"])) == 30


def test_the_registry_names_the_writer() -> None:
    assert chains.TASKS["chains"] is chains.write_task
