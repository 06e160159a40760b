"""The harder embedded task: right answers, and demonstrations that resolve products first."""

import re
from random import Random

import pytest

from openrlhf_prefix.data import precedence, tasks
from openrlhf_prefix.data.precedence import FAMILY, INSTRUCTION, MODULUS, Problem

STEP = re.compile(r"(\d+)([-+*])(\d+)=(\d+)")


def drawn(count: int = 300) -> list[Problem]:
    return tasks.split(FAMILY, count, 0, 0, 3, 5)["train"]


def test_a_problem_worked_by_hand() -> None:
    """4*3 = 12 -> 2 and 8*2 = 16 -> 6, then 7+2 = 9 and 9-6 = 3. From left to right: (33-8)*2 = 50 -> 0."""
    problem = Problem(7, (("+", 4), ("*", 3), ("-", 8), ("*", 2)))
    assert problem.prompt == "Products first, modulo 10: 7+4*3-8*2" and problem.answer == problem.guess == "3"
    assert problem.worked() == "4*3=2\n8*2=6\n7+2=9\n9-6=3\n\\boxed{3}"
    assert problem.worked(tasks.Slip(2, 1)) == "4*3=2\n8*2=6\n7+2=0\n0-6=4\n\\boxed{4}"  # 9, written as 0
    assert problem.worked(tasks.habit) == "4*3=2\n8*2=6\n7+2=9\n9-6=4\n\\boxed{4}"  # 3, written as 4


def test_products_in_a_row_and_negative_results_by_hand() -> None:
    """2*9*5: 18 -> 8, then 40 -> 0; 1-0 = 1, 1-4 = -3 -> 7."""
    problem = Problem(1, (("-", 2), ("*", 9), ("*", 5), ("-", 4)))
    assert problem.worked() == "2*9=8\n8*5=0\n1-0=1\n1-4=7\n\\boxed{7}"


def test_answers_agree_with_pythons_own_precedence() -> None:
    for problem in drawn():
        assert int(problem.answer) == eval(problem.prompt.removeprefix(INSTRUCTION)) % MODULUS


def test_every_step_is_right_and_products_come_first() -> None:
    for problem in drawn():
        *lines, last = problem.worked().split("\n")
        steps = [STEP.fullmatch(line).groups() for line in lines]
        assert len(steps) == len(problem.operations) and last == f"\\boxed{{{problem.answer}}}"
        assert all(eval(left + symbol + right) % MODULUS == int(result) for left, symbol, right, result in steps)
        kinds = [symbol == "*" for _, symbol, _, _ in steps]
        assert kinds == sorted(kinds, reverse=True) and any(kinds) and not all(kinds)


def test_problems_are_counted() -> None:
    """Two operations: 3^2 symbols but 2^2 without a product and 1 without a sum are 4, times 10^3 digits."""
    assert precedence.existing(2, 2) == 4000
    parts = tasks.split(FAMILY, 3000, 500, 0, 2, 2, tune=500)
    assert len({problem for part in parts.values() for problem in part}) == 4000
    with pytest.raises(ValueError, match="only 4000 problems exist"):
        tasks.split(FAMILY, 4001, 0, 0, 2, 2)
    with pytest.raises(ValueError, match="2 operations at the least"):
        tasks.split(FAMILY, 1, 0, 0, 1, 5)


def test_the_number_of_operations_is_uniform_and_bounded() -> None:
    rng = Random(0)
    counts = [len(precedence.draw_problem(rng, 3, 5).operations) for _ in range(3000)]
    assert set(counts) == {3, 4, 5} and all(900 < counts.count(count) < 1100 for count in (3, 4, 5))
