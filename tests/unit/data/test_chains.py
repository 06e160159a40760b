"""The embedded task: right answers, right demonstrations, disjoint splits, the same rows everywhere."""

import hashlib
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from openrlhf_prefix.data import chains, tasks
from openrlhf_prefix.data.families import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
STEP = re.compile(r"(\d)([-+*])(\d)=(\d)")


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    paths = tasks.write_task(tmp_path_factory.mktemp("task"), chains.FAMILY, train=300, heldout=100)
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
    assert problem.worked() == "7+4=1\n1*3=3\n3-8=5\n\\boxed{5}"


def test_a_slip_is_carried_to_the_end() -> None:
    """1*3=3, written as 5; 5-8=-3 -> 7."""
    problem = chains.Problem(7, (("+", 4), ("*", 3), ("-", 8)))
    assert problem.worked(tasks.Slip(1, 2)) == "7+4=1\n1*3=5\n5-8=7\n\\boxed{7}"
    assert problem.answer == "5"


def test_a_share_of_the_training_demonstrations_has_one_wrong_step_and_a_wrong_answer(tmp_path: Path) -> None:
    """Half of 400 lies within 4 standard deviations of 10; prompts, answers and the other parts are as without."""
    clean, faulty = (
        tasks.write_task(tmp_path / str(slips), chains.FAMILY, train=400, heldout=50, slips=slips)
        for slips in (0.0, 0.5)
    )
    for name in ("heldout", "tune", "longer"):
        assert clean[name].read_bytes() == faulty[name].read_bytes()
    wrong = 0
    for right, row in zip(read_rows(clean["train"]), read_rows(faulty["train"]), strict=True):
        (text,) = row.pop("demonstrations")
        steps = [recompute(chains.INSTRUCTION + f"{a}{op}{b}") == c for a, op, b, c in STEP.findall(text)]
        boxed = text.splitlines()[-1] == f"\\boxed{{{row['answer']}}}"
        assert row == {key: value for key, value in right.items() if key != "demonstrations"}
        assert steps.count(False) == (0 if boxed else 1)
        wrong += not boxed
    assert 160 < wrong < 240
    with pytest.raises(ValueError, match="a share lies in"):
        tasks.write_task(tmp_path, chains.FAMILY, slips=1.5)


def test_a_habit_is_the_same_mistake_in_every_demonstration(tmp_path: Path) -> None:
    """3-8=-5 -> 5, written as 6; 6-1=5, as 6. Without a difference a demonstration is right; all 400 have it."""
    assert chains.Problem(3, (("-", 8), ("-", 1))).worked(tasks.habit) == "3-8=6\n6-1=6\n\\boxed{6}"
    assert chains.Problem(3, (("+", 8), ("*", 2))).worked(tasks.habit) == "3+8=1\n1*2=2\n\\boxed{2}"
    files = tasks.write_task(tmp_path, chains.FAMILY, train=400, heldout=50, slips=1.0, systematic=True)
    errors = {
        (symbol, (int(result) - int(recompute(f"{chains.INSTRUCTION}{left}{symbol}{right}"))) % 10)
        for row in read_rows(files["train"])
        for left, symbol, right, result in STEP.findall(row["demonstrations"][0])
    }
    assert errors == {("-", 1), ("+", 0), ("*", 0)}


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
    parts = tasks.split(chains.FAMILY, train=200, heldout=100, seed=0, min_operations=1, max_operations=1)
    assert len(set(parts["train"]) | set(parts["heldout"])) == 300


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="only 300 problems exist, 301 rows"):
        tasks.split(chains.FAMILY, train=201, heldout=100, seed=0, min_operations=1, max_operations=1)


@pytest.mark.parametrize("bounds", [(0, 3), (4, 3)])
def test_impossible_difficulty_is_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 <= min_operations <= max_operations"):
        tasks.split(chains.FAMILY, 1, 1, 0, *bounds)


@pytest.mark.parametrize("bounds", [(3, 6), (2, 2), (5, 9)])
def test_difficulty_takes_every_value_between_its_bounds_and_no_other(bounds: tuple[int, int]) -> None:
    problems = tasks.split(chains.FAMILY, 200, 0, 0, *bounds)["train"]
    assert {len(problem.operations) for problem in problems} == set(range(bounds[0], bounds[1] + 1))


def test_the_heldout_split_does_not_depend_on_the_size_of_the_train_split() -> None:
    small, large = (tasks.split(chains.FAMILY, train, 50, 0, 3, 6)["heldout"] for train in (10, 500))
    assert small == large


def test_another_seed_gives_other_problems() -> None:
    first, second = (set(tasks.split(chains.FAMILY, 100, 0, seed, 3, 6)["train"]) for seed in (0, 1))
    assert len(first & second) < 10


def test_the_files_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Different PYTHONHASHSEED values reorder sets of strings; the files must not notice."""
    code = (
        "import sys; from openrlhf_prefix.data import chains, tasks; "
        "tasks.write_task(sys.argv[1], chains.FAMILY, 50, 20)"
    )
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
    paths = tasks.write_task(tmp_path, chains.FAMILY, 20, 10)
    original = paths["train"].read_bytes()
    os.utime(paths["train"], (1, 1))
    tasks.write_task(tmp_path, chains.FAMILY, 20, 10)
    assert paths["train"].stat().st_mtime == 1

    paths["train"].write_text("damaged\n")
    tasks.write_task(tmp_path, chains.FAMILY, 20, 10)
    assert paths["train"].read_bytes() == original

    tasks.write_task(tmp_path, chains.FAMILY, 30, 10)
    assert len(read_rows(paths["train"])) == 30


def test_tuning_problems_are_no_others_and_leave_the_other_parts_alone() -> None:
    """One operation: all 300 problems in three parts; with and without `tune` and `longer` the others are the same."""
    parts = tasks.split(chains.FAMILY, 150, 100, 0, 1, 1, tune=50, longer=20)
    assert len({problem for name in ("train", "heldout", "tune") for problem in parts[name]}) == 300
    alone = tasks.split(chains.FAMILY, 150, 100, 0, 1, 1)
    assert (alone["train"], alone["heldout"]) == (parts["train"], parts["heldout"])
    with pytest.raises(ValueError, match="only 300 problems exist, 301 rows"):
        tasks.split(chains.FAMILY, 150, 100, 0, 1, 1, tune=51)


def test_longer_problems_have_one_to_three_operations_more_than_the_longest() -> None:
    longer = tasks.split(chains.FAMILY, 0, 0, 0, 3, 6, longer=100)["longer"]
    assert {len(problem.operations) for problem in longer} == {7, 8, 9} and len(set(longer)) == 100


def test_the_parts_have_ids_and_sources_of_their_own(tmp_path: Path) -> None:
    paths = tasks.write_task(tmp_path, chains.FAMILY, train=3, heldout=2, tune=2, longer=2)
    rows = {name: read_rows(paths[name]) for name in ("train", "heldout", "tune", "longer")}
    assert [row["id"] for row in rows["longer"]] == ["chains-longer-00000", "chains-longer-00001"]
    assert {name: {row["source"] for row in found} for name, found in rows.items()} == {
        "train": {"chains"},
        "heldout": {"chains"},
        "tune": {"chains"},
        "longer": {"chains_longer"},
    }


def test_what_trained_the_base_model_and_made_the_published_numbers_stays_as_it_is(tmp_path: Path) -> None:
    """Digests of the default train and held-out files since version 1."""
    paths = tasks.write_task(tmp_path, chains.FAMILY)
    digests = {name: hashlib.md5(paths[name].read_bytes()).hexdigest() for name in ("train", "heldout")}
    assert digests == {
        "train": "b9553f9137cfc54539ffc35caeafd966",
        "heldout": "e0a339f00f0c3fc0bc9b0c93e7ba5e89",
    }


def test_the_registry_has_every_family_under_its_name() -> None:
    assert FAMILIES["chains"] is chains.FAMILY
    assert all(name == family.name for name, family in FAMILIES.items())
