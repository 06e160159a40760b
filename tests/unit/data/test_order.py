"""The order of the problems: one permutation an episode, whole batches, and a position that can be saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from openrlhf_prefix.data.order import ProblemLoader  # noqa: E402
from openrlhf_prefix.data.problems import Problem  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def make_problems(count: int) -> list[Problem]:
    ids = np.array([1], dtype=np.int32)
    return [Problem(f"p{i}", f"source-{i % 2}", f"answer-{i}", ids, ()) for i in range(count)]


def loader(count: int = 10, batch: int = 1, seed: int | None = 0) -> ProblemLoader:
    return ProblemLoader(make_problems(count), batch, seed)


def names(visited: object) -> list[str]:
    return [problems[0].id for _, problems, _, _ in visited]


def take(iterator: object, count: int) -> list[str]:
    return names(next(iterator) for _ in range(count))


def test_each_episode_visits_every_problem_once() -> None:
    subject = loader(10)
    for _ in range(3):
        assert sorted(names(subject)) == sorted(f"p{i}" for i in range(10))


def test_episodes_and_seeds_differ_and_none_is_the_files_order() -> None:
    """20! orders: two equal ones among these would be no chance."""
    first, second = loader(20), loader(20, seed=1)
    orders = [names(first), names(first), names(first), names(second), [f"p{i}" for i in range(20)]]
    assert len({tuple(order) for order in orders}) == 5


def test_an_episode_is_trimmed_to_whole_batches_and_others_bring_what_it_left() -> None:
    """11 problems in batches of 4: 8 visited, 3 left; 10 episodes leave one out each time with (3/11)^10 = 2e-6."""
    subject = loader(11, batch=4)
    episodes = [names(subject) for _ in range(10)]
    assert len(subject) == 8 and all(len(episode) == len(set(episode)) == 8 for episode in episodes)
    assert len(set().union(*episodes)) == 11


@pytest.mark.parametrize(("count", "batch", "length"), [(8, 4, 8), (7, 4, 4), (4, 4, 4), (3, 4, 0), (5, 1, 5)])
def test_the_length_is_that_of_the_whole_batches(count: int, batch: int, length: int) -> None:
    subject = loader(count, batch)
    assert len(subject) == length and len(list(subject)) == length


def test_a_problem_comes_with_its_own_source_and_answer() -> None:
    """In the form of OpenRLHF's loader: four lists of one; text only."""
    for sources, problems, answers, images in loader(6):
        index = int(problems[0].id[1:])
        assert (sources, answers, images) == ([f"source-{index % 2}"], [f"answer-{index}"], [None])


def test_evaluation_keeps_the_order_of_the_file_and_every_row() -> None:
    subject = loader(7, seed=None)
    assert [names(subject), names(subject)] == [[f"p{i}" for i in range(7)]] * 2


@pytest.mark.parametrize("stop", range(1, 23))
def test_a_saved_position_goes_on_exactly_there(stop: int) -> None:
    """Three episodes of 9 problems in batches of 3, saved after `stop` problems, also at the ends 9 and 18."""
    straight = [name for subject in [loader(9, 3)] for _ in range(3) for name in names(subject)]
    before = loader(9, 3)
    for _ in range((stop - 1) // 9):
        names(before)
    take(iter(before), (stop - 1) % 9 + 1)
    state = json.loads(json.dumps(before.state_dict()))
    after = loader(9, 3)
    after.load_state_dict(state)
    rest = [name for _ in range(3 - (stop - 1) // 9) for name in names(after)]
    assert rest == straight[stop:]


def test_a_position_at_the_end_of_an_episode_ends_that_episode_at_once() -> None:
    """OpenRLHF resumes in the saved episode, so the next pass is empty and the one after it a new permutation."""
    before, after = loader(6), loader(6)
    names(before)
    after.load_state_dict(before.state_dict())
    assert names(after) == []
    assert names(after) == names(before)


def test_a_position_is_taken_up_once() -> None:
    before, after = loader(6), loader(6)
    take(iter(before), 2)
    after.load_state_dict(before.state_dict())
    assert [len(names(after)), len(names(after)), len(names(after))] == [4, 6, 6]


def test_every_process_has_the_same_order() -> None:
    code = (
        "import numpy as np\n"
        "from openrlhf_prefix.data.order import ProblemLoader\n"
        "from openrlhf_prefix.data.problems import Problem\n"
        "loader = ProblemLoader([Problem(f'p{i}', 's', 'a', np.zeros(1), ()) for i in range(12)], 5, 3)\n"
        "print(','.join(p[1][0].id for _ in range(2) for p in loader))"
    )
    here = loader(12, 5, 3)
    expected = ",".join(names(here) + names(here))
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert there.stdout.decode().strip() == expected
