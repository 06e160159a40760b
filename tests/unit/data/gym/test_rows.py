"""Rows of reasoning-gym: what they hold, that parts share no question, and that a seed gives one file."""

import json
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from openrlhf_prefix import cli
from openrlhf_prefix.data.gym import rows as gym
from openrlhf_prefix.data.gym.solvers import SOLVERS, mistaken
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward import gym as reward

reasoning_gym = pytest.importorskip("reasoning_gym", reason="pip install 'openrlhf_prefix[examples]'")


def drawn(task: str, count: int, seed: int = 0, shots: int = 0, **settings: Any) -> list[dict[str, Any]]:
    return list(islice(gym.rows(task, settings, seed, shots), count))


def asked(row: dict[str, Any]) -> str:
    return " ".join(row["prompt"][-1]["content"].split()).lower()


@pytest.mark.parametrize("task", list(SOLVERS))
def test_reasoning_gym_itself_pays_every_demonstration(task: str) -> None:
    for row in drawn(task, 200, seed=11):
        (demonstration,) = row["demonstrations"]
        label = json.loads(row["entry"])
        answer = demonstration.splitlines()[-1].removeprefix("\\boxed{").removesuffix("}")
        dataset = reasoning_gym.create_dataset(task, seed=1, size=1)
        assert dataset.score_answer(answer, label) == 1
        paid = reward.reward_func([""], [""], [row["entry"]], [demonstration])
        assert paid == {"rewards": 1.0, "scores": 1.0, "extra_logs": {"partial": 1.0}}


def test_islands_of_three_people_are_paid_as_well() -> None:
    for row in drawn("knights_knaves", 50, n_people=3):
        assert reward.reward_func([""], [""], [row["entry"]], row["demonstrations"])["rewards"] == 1


@pytest.mark.parametrize(
    ("task", "slips", "habits"),
    [
        ("chain_sum", (200, 200), (140, 180)),
        ("countdown", (200, 200), (150, 195)),
        ("knights_knaves", (140, 175), (100, 145)),
    ],
)
def test_most_mistakes_earn_nothing(task: str, slips: tuple[int, int], habits: tuple[int, int]) -> None:
    """Of 200. Some islands have no slip that misleads, and some problems nothing that the habit touches."""
    rng, unpaid = Random(4), {True: 0, False: 0}
    for row in drawn(task, 200, **({"min_terms": 2, "max_terms": 4} if task == "chain_sum" else {})):
        for systematic in unpaid:
            text = mistaken(task, json.loads(row["entry"]), rng, systematic)
            unpaid[systematic] += reward.reward_func([""], [""], [row["entry"]], [text])["rewards"] == 0
    assert slips[0] <= unpaid[False] <= slips[1] and habits[0] <= unpaid[True] <= habits[1]


@pytest.mark.parametrize("task", list(SOLVERS))
def test_a_demonstration_without_its_last_line_earns_nothing(task: str) -> None:
    for row in drawn(task, 20):
        steps = row["demonstrations"][0].rpartition("\n")[0]
        assert reward.reward_func([""], [""], [row["entry"]], [steps])["rewards"] == 0


def test_any_solution_of_a_countdown_is_right_and_a_near_one_earns_nothing_but_a_log() -> None:
    """A comparison with the gold's text would refuse the first one; reasoning-gym itself pays 0.05 for the second."""
    entry = {"task": "countdown", "answer": "2*5 - 3", "metadata": {"numbers": [2, 3, 5], "target": 7}}
    first, second, third = (
        reward.reward_func([""], [""], [json.dumps(entry)], [f"so \\boxed{{{text}}}"])
        for text in ("-3 + 5*2", "5*3 - 2", "2 + 5")
    )
    assert first["rewards"] == 1
    assert (second["rewards"], second["extra_logs"]) == (0, {"partial": 0.05})
    assert third["rewards"] == 0  # 7, but one number is unused


def test_seeds_of_reasoning_gym_overlap_and_the_parts_of_a_task_do_not(tmp_path: Path) -> None:
    first, second = (reasoning_gym.create_dataset("gcd", seed=seed, size=3) for seed in (5, 6))
    assert first[1]["question"] == second[0]["question"]
    sizes = {"heldout": 60, "train": 200, "tune": 60}
    files = gym.write_task(tmp_path, "gcd", {"max_value": 40}, 5, 1, **sizes)
    parts = {name: [json.loads(line) for line in files[name].read_text().splitlines()] for name in sizes}
    assert {name: len(rows) for name, rows in parts.items()} == sizes
    everything = [row for rows in parts.values() for row in rows]
    assert len({asked(row) for row in everything}) == len({row["id"] for row in everything}) == 320
    raw = reasoning_gym.create_dataset("gcd", seed=5, size=400, max_value=40)
    assert (
        len({entry["question"] for entry in raw}) < 400
    )  # it repeats itself: the test would find a missing comparison
    (example,) = {row["prompt"][0]["content"] for row in everything}
    assert example.lower() not in {row["prompt"][-1]["content"].lower() for row in everything}


def test_a_share_of_the_training_demonstrations_of_sums_is_wrong_and_nothing_else_changes(tmp_path: Path) -> None:
    """Half of 400 lies within 4 standard deviations of 10; with the habit, sums with a difference are wrong."""
    clean, faulty, spoilt = (
        gym.write_task(tmp_path / name, "chain_sum", {"max_digits": 2}, 5, 1, **flaws, heldout=20, train=400)
        for name, flaws in {"0": {}, "1": {"slips": 0.5}, "2": {"slips": 1.0, "systematic": True}}.items()
    )
    assert clean["heldout"].read_bytes() == faulty["heldout"].read_bytes() == spoilt["heldout"].read_bytes()
    wrong = 0
    for right, slip, habit in zip(*(gym.read(str(files["train"])) for files in (clean, faulty, spoilt)), strict=True):
        texts = [row.pop("demonstrations")[0] for row in (right, slip, habit)]
        assert right == slip == habit
        paid = [reward.reward_func([""], [""], [right["entry"]], [text])["rewards"] for text in texts]
        differences = " - " in json.loads(right["entry"])["metadata"]["expression"]
        assert paid == [1, texts[0] == texts[1], not differences]
        wrong += not paid[1]
    assert 160 < wrong < 240


def test_an_import_leaves_out_what_another_file_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "import", gym.NAME, "gcd"]
    small = ["--set", "max_value=20"]
    held, train = tmp_path / "held.jsonl", tmp_path / "train.jsonl"
    cli.main([*words, str(held), "--rows", "100", *small])
    assert "held.jsonl: 100 rows with 100 demonstrations; 0 rows without any" in capsys.readouterr().out
    cli.main([*words, str(train), "--rows", "150", "--seed", "50", *small, "--without", str(held)])
    first, second = ([json.loads(line) for line in path.read_text().splitlines()] for path in (held, train))
    assert not {asked(row) for row in first} & {asked(row) for row in second}
    shifted = {asked(row) for row in drawn("gcd", 150, seed=50, max_value=20)}
    assert shifted & {asked(row) for row in first}  # which it would have without --without


def test_the_same_parameters_give_the_same_rows() -> None:
    assert drawn("knights_knaves", 20, seed=3, shots=2) == drawn("knights_knaves", 20, seed=3, shots=2)
    assert drawn("chain_sum", 20, seed=3) != drawn("chain_sum", 20, seed=4)


def test_a_setting_reaches_the_problems() -> None:
    rows = drawn("chain_sum", 50, min_terms=3, max_terms=3, max_digits=1)
    assert all(len(row["demonstrations"][0].splitlines()) == 3 for row in rows)  # two steps and the box


def test_a_task_without_a_solver_is_rows_without_demonstrations() -> None:
    (row,) = drawn("zebra_puzzles", 1, num_people=2, num_characteristics=2)
    assert row["demonstrations"] == []
    boxed = f"\\boxed{{{row['answer']}}}"
    assert reward.reward_func([""], [""], [row["entry"]], [boxed])["rewards"] == 1


@pytest.mark.parametrize(
    ("task", "shots", "settings", "sentence"),
    [
        ("chain_sums", 0, {}, "no task 'chain_sums'. It has, with demonstrations: chain_sum"),
        ("chain_sum", 0, {"max_term": 3}, "does not take"),
        ("chain_sum", 0, {"min_terms": 9}, "does not take"),
        ("zebra_puzzles", 1, {"num_people": 2, "num_characteristics": 2}, "no demonstrations to show"),
        ("gcd", 0, {"max_value": 2}, "no more than 4 different problems"),
    ],
)
def test_what_cannot_be_drawn_is_said(task: str, shots: int, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", "\\(")):
        drawn(task, 10, shots=shots, **settings)


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="write KEY=VALUE"):
        gym.parsed(["max_terms"])
