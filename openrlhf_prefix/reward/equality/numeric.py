r"""Values that are not rational: numbers to hundreds of digits, formulas with variables at random points.

Two constants are evaluated at 40, then 160, then 640 digits and differ once their difference is above the rounding
error. That error is relative: only a sum loses digits, so 2^{-40} and 2^{-41}, or e^{-1000} and 0, differ at once. Two
formulas are equal if they agree at every point where they have a value; points are real, of either sign, and integers
for n, m and k. A real value against a complex one is a difference: ln x and ln |x|.

An unknown function f or a sequence a_n is replaced by some analytic function of the same name. Runs in a worker alone:
mpmath comes with sympy.
"""

import random
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath

from openrlhf_prefix.reward.equality import exact
from openrlhf_prefix.reward.equality.evaluate import DEGREE, SALT, Evaluator, NotEvaluable, NoValue, Number
from openrlhf_prefix.reward.equality.exact import NotExact
from openrlhf_prefix.reward.equality.lists import PARAMETER
from openrlhf_prefix.reward.equality.realsets import INFINITY, NoSet
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.cursor import Node

_DIGITS = (40, 160, 640)
_GUARD = 12
_POINTS, _NEEDED = 14, 3
_INTEGERS = frozenset("nmkNMK")
_WORKER_BITS = 2**23


class NumericOracle:
    """What compare.py asks of values, answered for any formula that has one. See compare.Oracle."""

    def values(self, gold: Node, answer: Node) -> bool:
        return any(self._values(left, right) for left, right in exact.readings(gold, answer, _size))

    def _values(self, gold: Node, answer: Node) -> bool:
        try:
            return exact.same(
                exact.value(gold, bits=_WORKER_BITS), exact.value(answer, bits=_WORKER_BITS), gold, answer
            )
        except NotExact:
            pass
        if trees.is_constant(gold) and trees.is_constant(answer):
            return self._constants(gold, answer)
        if any(side in (INFINITY, ("neg", INFINITY)) for side in (gold, answer)):
            return False
        return any(_agree(gold, answer, degree) for degree in _degrees(gold, answer))

    def _constants(self, gold: Node, answer: Node) -> bool:
        bases = [None, mpmath.log(10)] if trees.has_call(gold, "log") or trees.has_call(answer, "log") else [None]
        if any(_same_number(gold, answer, names, base) for base in bases for names in _degrees(gold, answer)):
            return True
        return any(self._rounded(literal, other) for literal, other in ((gold, answer), (answer, gold)))

    def _rounded(self, literal: Node, other: Node) -> bool:
        rounded = exact.decimal(literal)
        if rounded is None:
            return False
        value = _at({}, other, 40 + abs(rounded[1]))[0]
        if value is None or mpmath.im(value) != 0 or not mpmath.isfinite(value):
            return False
        return exact.agrees(*rounded, _fraction(value))

    def position(self, node: Node) -> Fraction:
        value = _at({}, node, 40)[0]
        if value is None or not mpmath.isfinite(value) or abs(mpmath.im(value)) > mpmath.mpf(10) ** -30:
            raise NoSet
        with mpmath.workdps(28):
            rounded = +mpmath.re(value)
        if abs(mpmath.mag(rounded)) > 20_000 and rounded:
            raise NoSet
        return _fraction(rounded)

    def ratio_sign(self, gold: Node, answer: Node) -> int:
        ratio = None
        for values in _points(gold, answer):
            left, right = values
            if not left or not right or mpmath.im(left) or mpmath.im(right):
                return 0
            if ratio is not None and abs(left / right - ratio) > abs(ratio) * mpmath.mpf(10) ** -25:
                return 0
            ratio = left / right
        return 0 if ratio is None else int(mpmath.sign(ratio))

    def same_equation(self, gold: Node, answer: Node) -> bool:
        if self.ratio_sign(gold, answer):
            return True
        from openrlhf_prefix.reward.equality.symbolic import same_solutions

        return same_solutions(gold, answer)

    def solve(self, relation: Node, name: str) -> Any:
        from openrlhf_prefix.reward.equality.symbolic import solutions

        return solutions(relation, name, self.position)


def _size(node: Node) -> Number:
    value = _at({}, node, 20)[0]
    return mpmath.mpf(0) if value is None else abs(value)


def _degrees(gold: Node, answer: Node) -> list[dict[str, Number]]:
    """A degree sign on both sides is any factor; on one side it may be left out, or stand for pi / 180."""
    both = trees.has(gold, "deg"), trees.has(answer, "deg")
    if all(both) or not any(both):
        return [{}]
    return [{}, {DEGREE: mpmath.mpf(1)}]


def _at(names: dict[str, Number], node: Node, digits: int, base: Number | None = None) -> tuple[Number | None, Number]:
    """Value and scale of a formula at a point; None where it has none."""
    with mpmath.workdps(digits + _GUARD):
        evaluator = Evaluator(dict(names), base)
        evaluator.complex = _speaks_of_i(node)
        try:
            value = evaluator(node)
            return (None if mpmath.isnan(value) else +value), evaluator.scale
        except (NoValue, NotExact, ZeroDivisionError, ValueError, TypeError, OverflowError, ArithmeticError):
            return None, mpmath.mpf(0)
        except mpmath.libmp.NoConvergence:
            return None, mpmath.mpf(0)


def _same_number(gold: Node, answer: Node, names: dict[str, Number], base: Number | None) -> bool:
    for digits in _DIGITS:
        (left, left_scale), (right, right_scale) = _at(names, gold, digits, base), _at(names, answer, digits, base)
        if left is None or right is None:
            return False
        if not (mpmath.isfinite(left) and mpmath.isfinite(right)):
            return left == right
        with mpmath.workdps(digits + _GUARD):
            allowed = max(abs(left), abs(right), left_scale, right_scale) * mpmath.mpf(10) ** -digits
            if abs(left - right) > allowed:
                return False
    return True


def _agree(gold: Node, answer: Node, degree: dict[str, Number]) -> bool:
    """Whether both sides agree wherever they have a value, and have one often enough to tell."""
    seen = 0
    for names in _draw(gold, answer):
        (left, left_scale), (right, right_scale) = (_at({**names, **degree}, side, 40) for side in (gold, answer))
        if left is None or right is None or not (mpmath.isfinite(left) and mpmath.isfinite(right)):
            continue
        complex_sides = [abs(mpmath.im(side)) > abs(side) * mpmath.mpf(10) ** -30 for side in (left, right)]
        if all(complex_sides) and not _speaks_of_i(gold) and not _speaks_of_i(answer):
            continue  # outside of both domains
        with mpmath.workdps(52):
            allowed = max(abs(left), abs(right), left_scale, right_scale) * mpmath.mpf(10) ** -30
            if not abs(left - right) <= allowed:
                return False
        seen += 1
    if seen < _NEEDED:
        raise NotEvaluable("no point in common")
    return True


def _speaks_of_i(node: Node) -> bool:
    return any(one == ("sym", "i") for one in trees.nodes(node))


def _draw(gold: Node, answer: Node) -> Iterator[dict[str, Number]]:
    """Points: real ones of either sign, then small positive integers; the same for the same names."""
    names = sorted(trees.symbols(gold) | trees.symbols(answer))
    numbers = random.Random(zlib.crc32("".join(names).encode()))
    for index in range(_POINTS):
        point = {SALT: mpmath.mpf(numbers.random())}
        for name in names:
            if name in _INTEGERS or name.startswith(PARAMETER) or index >= _POINTS - 4:
                point[name] = mpmath.mpf(numbers.randint(1, 9 + index))
            else:
                sign = 1 if index % 2 == 0 else numbers.choice((1, -1))
                size = numbers.uniform(0.05, 1) if index % 4 < 2 else numbers.uniform(1, 9)
                point[name] = mpmath.mpf(sign * size)
        yield point


def _points(gold: Node, answer: Node) -> Iterator[tuple[Number, Number]]:
    seen = 0
    for names in _draw(gold, answer):
        left, right = _at(names, gold, 40)[0], _at(names, answer, 40)[0]
        if (
            left is None
            or right is None
            or not mpmath.isfinite(left + right)
            or (mpmath.im(left) and mpmath.im(right))
        ):
            continue
        with mpmath.workdps(52):
            yield left, right
        seen += 1
    if seen < _NEEDED:
        raise NotEvaluable("no point in common")


def _fraction(value: Number) -> Fraction:
    sign, mantissa, exponent, _ = mpmath.mpf(mpmath.re(value))._mpf_
    return Fraction(-int(mantissa) if sign else int(mantissa)) * Fraction(2) ** exponent
