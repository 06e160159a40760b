"""The harder embedded task: single-digit operations with the usual precedence, modulo 10.

    prompt          Products first, modulo 10: 7+4*3-8*2
    demonstration   4*3=2 / 8*2=6 / 7+2=9 / 9-6=3 / \\boxed{3}    (all products, then sums from left to right)
    answer          3

The steps are not in the order of the text, and the base model's habit is a bare number, which the verifier does not
read: a policy that never writes the steps has next to nothing to reinforce, while a demonstration shows the way.
Every problem has a product and a sum, so that the order matters.
"""

import operator
from random import Random
from typing import NamedTuple

from openrlhf_prefix.data.tasks import Family, Mistake

MODULUS = 10
INSTRUCTION = f"Products first, modulo {MODULUS}: "
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Problem(NamedTuple):
    """A first digit, then (operator, digit) pairs."""

    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        return f"{INSTRUCTION}{self.first}" + "".join(f"{symbol}{digit}" for symbol, digit in self.operations)

    def steps(self, mistake: Mistake | None = None) -> list[tuple[int, str, int, int]]:
        """(left, operator, right, result), one a step: products from left to right, then sums."""
        values, symbols = [self.first, *(digit for _, digit in self.operations)], [s for s, _ in self.operations]
        steps: list[tuple[int, str, int, int]] = []
        for now in ("*", "+-"):
            place = 0
            while place < len(symbols):
                if symbols[place] not in now:
                    place += 1
                    continue
                left, symbol, right = values[place], symbols.pop(place), values.pop(place + 1)
                error = mistake(len(steps), symbol) if mistake else 0
                values[place] = (OPERATORS[symbol](left, right) + error) % MODULUS
                steps.append((left, symbol, right, values[place]))
        return steps

    @property
    def answer(self) -> str:
        return str(self.steps()[-1][-1])

    def worked(self, mistake: Mistake | None = None) -> str:
        steps = self.steps(mistake)
        lines = [f"{left}{symbol}{right}={result}" for left, symbol, right, result in steps]
        return "\n".join([*lines, f"\\boxed{{{steps[-1][-1]}}}"])

    @property
    def guess(self) -> str:
        """A bare number: the verifier reads nothing outside a box."""
        return self.answer


def draw_problem(rng: Random, min_operations: int, max_operations: int) -> Problem:
    """One problem with a product and a sum; its number of operations is uniform over the bounds, both included."""
    count = rng.randint(min_operations, max_operations)
    symbols = ""
    while not ("*" in symbols and ("+" in symbols or "-" in symbols)):
        symbols = "".join(rng.choice("+-*") for _ in range(count))
    return Problem(rng.randrange(10), tuple((symbol, rng.randrange(10)) for symbol in symbols))


def existing(min_operations: int, max_operations: int) -> int:
    """How many different problems there are: all, but for those of sums alone and of products alone."""
    if min_operations < 2:
        raise ValueError(f"min_operations={min_operations}: a product and a sum are 2 operations at the least")
    return sum(10 ** (count + 1) * (3**count - 2**count - 1) for count in range(min_operations, max_operations + 1))


FAMILY = Family("precedence", 1, INSTRUCTION, (3, 5), draw_problem, existing)
