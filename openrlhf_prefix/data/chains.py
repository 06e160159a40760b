"""The embedded task: chains of single-digit operations, read from left to right, modulo 10.

    prompt          Left to right, modulo 10: 7+4*3-8
    demonstration   7+4=1 / 1*3=3 / 3-8=5 / \\boxed{5}      (one step a line, each with its intermediate value)
    answer          5

Guessing the last digit is right little more than one time in ten, working through the steps every time: a policy
that learns to write the steps is visibly better, which is what demonstrations are for.
"""

import operator
from random import Random
from typing import NamedTuple

from openrlhf_prefix.data.tasks import Family, Mistake

INSTRUCTION = "Left to right, modulo 10: "
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Problem(NamedTuple):
    """One chain: a first digit, then (operator, digit) pairs."""

    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        return f"{INSTRUCTION}{self.first}" + "".join(f"{symbol}{digit}" for symbol, digit in self.operations)

    def steps(self, mistake: Mistake | None = None) -> list[tuple[int, str, int, int]]:
        """(value so far, operator, digit, new value), one a step."""
        steps, value = [], self.first
        for number, (symbol, digit) in enumerate(self.operations):
            error = mistake(number, symbol) if mistake else 0
            result = (OPERATORS[symbol](value, digit) + error) % 10
            steps.append((value, symbol, digit, result))
            value = result
        return steps

    @property
    def answer(self) -> str:
        return str(self.steps()[-1][-1])

    def worked(self, mistake: Mistake | None = None) -> str:
        steps = self.steps(mistake)
        lines = [f"{value}{symbol}{digit}={result}" for value, symbol, digit, result in steps]
        return "\n".join([*lines, f"\\boxed{{{steps[-1][-1]}}}"])

    @property
    def guess(self) -> str:
        """The answer without the work."""
        return f"\\boxed{{{self.answer}}}"


def draw_problem(rng: Random, min_operations: int, max_operations: int) -> Problem:
    """One problem; the number of operations (the difficulty) is uniform over the two bounds, both included."""
    count = rng.randint(min_operations, max_operations)
    operations = tuple((rng.choice("+-*"), rng.randrange(10)) for _ in range(count))
    return Problem(rng.randrange(10), operations)


def existing(min_operations: int, max_operations: int) -> int:
    """How many different problems there are."""
    return sum(10 ** (count + 1) * 3**count for count in range(min_operations, max_operations + 1))


FAMILY = Family("chains", 1, INSTRUCTION, (3, 6), draw_problem, existing)
