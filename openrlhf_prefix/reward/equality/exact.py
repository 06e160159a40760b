r"""Exact values: what is rational is worked out in Fractions, within a limit on their size; all else raises NotExact.

    value(2^{10}) == 1024       value(\sqrt{16}) == 4       value(\sqrt{2})  raises NotExact

And the rule for decimals: a literal decimal may have been rounded, so it agrees with any number that it is the
rounding of, if it shows five significant digits and four places, or six digits (or the cutting of, from seven on):

    0.666667 and 2/3, 3.1416 and pi agree        0.33 and 1/3, 3.14 and pi differ        0.999999 and 1 differ
"""

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from openrlhf_prefix.reward.grammar.cursor import Node

_DEFAULT_BITS = 2**16
_MAX_TERMS = 300


class NotExact(Exception):
    """No rational number, or one that is too large to write down here."""


class Undecided(Exception):
    """A comparison that needs more than rational arithmetic."""


def value(node: Node, names: Mapping[str, Fraction] | None = None, bits: int = _DEFAULT_BITS) -> Fraction:
    """The rational number that a formula is. Raises NotExact."""
    found = _value(node, names or {}, bits)
    if max(found.numerator.bit_length(), found.denominator.bit_length()) > 2 * bits:
        raise NotExact
    return found


def _value(node: Node, names: Mapping[str, Fraction], bits: int) -> Fraction:
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "sym" and node[1] in names:
        return names[node[1]]
    if kind in ("sum", "prod"):
        return _series(node, names, bits)
    if kind == "call":
        return _call(node[1], [value(part, names, bits) for part in node[2:]], bits)
    if kind not in _OPERATIONS:
        raise NotExact
    try:
        return _OPERATIONS[kind](*[value(part, names, bits) for part in node[1:]], bits=bits)
    except (ZeroDivisionError, OverflowError):
        raise NotExact from None


def _power(base: Fraction, exponent: Fraction, bits: int) -> Fraction:
    if exponent.denominator != 1:
        if base < 0 or exponent.denominator > 64:
            raise NotExact
        return _power(_root(base, exponent.denominator), Fraction(exponent.numerator), bits)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * size > bits and abs(base) != 1:
        raise NotExact
    return base ** int(exponent)


def _root(base: Fraction, index: int) -> Fraction:
    if base < 0:
        if index % 2 == 0:
            raise NotExact
        return -_root(-base, index)
    return Fraction(_integer_root(base.numerator, index), _integer_root(base.denominator, index))


def _integer_root(number: int, index: int) -> int:
    if index == 2:
        root = math.isqrt(number)
    elif number.bit_length() > 4096:
        raise NotExact
    else:
        low, high = 0, 1 << (number.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= number else (low, middle - 1)
        root = low
    if root**index != number:
        raise NotExact
    return root


def _natural(number: Fraction, limit: int) -> int:
    if number.denominator != 1 or not 0 <= number <= limit:
        raise NotExact
    return int(number)


def _factorial(number: Fraction, bits: int) -> Fraction:
    return Fraction(math.factorial(_natural(number, bits // 16)))


def _binomial(n: Fraction, k: Fraction, bits: int) -> Fraction:
    return Fraction(math.comb(_natural(n, bits // 16), _natural(k, bits // 16)))


def _sum(*terms: Fraction, bits: int) -> Fraction:
    return sum(terms, Fraction(0))


def _product(*factors: Fraction, bits: int) -> Fraction:
    return math.prod(factors, start=Fraction(1))


_OPERATIONS: dict[str, Callable[..., Fraction]] = {
    "add": _sum,
    "mul": _product,
    "div": lambda a, b, bits: a / b,
    "pow": _power,
    "neg": lambda a, bits: -a,
    "pct": lambda a, bits: a / 100,
    "fact": _factorial,
    "binom": _binomial,
    "perm": lambda n, k, bits: Fraction(math.perm(_natural(n, 4096), _natural(k, 4096))),
    "mod": lambda a, b, bits: a % b,
}


def _call(name: str, arguments: list[Fraction], bits: int) -> Fraction:
    first = arguments[0]
    if name == "root" and arguments[1].denominator == 1 and 1 <= arguments[1] <= 64:
        return _root(first, int(arguments[1]))
    if name in ("max", "min"):
        return max(arguments) if name == "max" else min(arguments)
    if name in ("gcd", "lcm") and all(number.denominator == 1 for number in arguments):
        return Fraction(getattr(math, name)(*[int(number) for number in arguments]))
    if name in _STEPS and len(arguments) == 1:
        return Fraction(_STEPS[name](first))
    if name == "fact2":
        return Fraction(math.prod(range(_natural(first, 1000), 0, -2)))
    raise NotExact


_STEPS: dict[str, Callable[[Any], Any]] = {
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "sgn": lambda a: (a > 0) - (a < 0),
}


def _series(node: Node, names: Mapping[str, Fraction], bits: int) -> Fraction:
    kind, variable, low, high, body = node
    first, last = value(low, names, bits), value(high, names, bits)
    if first.denominator != 1 or last.denominator != 1 or last - first > _MAX_TERMS:
        raise NotExact
    terms = [value(body, {**names, variable: Fraction(k)}, bits) for k in range(int(first), int(last) + 1)]
    return sum(terms, Fraction(0)) if kind == "sum" else math.prod(terms, start=Fraction(1))


def decimal(node: Node) -> tuple[Fraction, int] | None:
    """Value and places of a literal decimal, signed, in percent or with a power of ten; None for anything else."""
    kind = node[0]
    if kind == "num":
        return None if node[2] is None else (node[1], node[2])
    if kind == "neg" and (inner := decimal(node[1])):
        return -inner[0], inner[1]
    if kind == "pct" and (inner := decimal(node[1])):
        return inner[0] / 100, inner[1] + 2
    if kind == "mul" and len(node) == 3 and node[2][0] == "pow" and node[2][1] == ("num", Fraction(10), None):
        inner = decimal(node[1])
        try:
            power = value(node[2][2])
        except NotExact:
            return None
        if inner and power.denominator == 1 and abs(power) <= 400:
            return inner[0] * Fraction(10) ** int(power), inner[1] - int(power)
    return None


def agrees(rounded: Fraction, places: int, other: Fraction) -> bool:
    """Whether a decimal is the rounding or the cutting of `other`, and shows enough digits to tell."""
    step = Fraction(10) ** -places
    digits = len(str(abs(int(rounded / step)))) if rounded else 0
    if digits < 5 or (digits < 6 and places < 4):
        return False
    off = abs(rounded - other)
    cut = digits >= 7 and off < step and abs(rounded) <= abs(other) and rounded * other > 0
    return off <= step / 2 or cut


def same(gold: Fraction, answer: Fraction, gold_node: Node, answer_node: Node) -> bool:
    """Equality of two values that formulas have, by the rule for decimals where either is one."""
    if gold == answer:
        return True
    of_gold, of_answer = decimal(gold_node), decimal(answer_node)
    if of_gold and of_answer:
        (coarse, places), (fine, more) = sorted((of_gold, of_answer), key=lambda one: one[1])
        return places < more and agrees(coarse, places, fine)
    if of_gold:
        return agrees(*of_gold, answer)
    return of_answer is not None and agrees(*of_answer, gold)


def readings(gold: Node, answer: Node, size: Callable[[Node], Any]) -> Iterator[tuple[Node, Node]]:
    """The pairs of values of which one must be equal: p% is p/100, and also p where |p| >= 1.

    For the sign may stand in the question, but below 1 it may not be dropped; two percentages compare as they are.
    """
    sides = percent(gold), percent(answer)
    if sides[0] and sides[1]:
        yield sides[0], sides[1]
        return
    yield gold, answer
    part = sides[0] or sides[1]
    if part and size(part) >= 1:
        yield (part, answer) if sides[0] else (gold, part)


def percent(node: Node) -> Node | None:
    """p of p% and of -p%."""
    if node[0] == "pct":
        return node[1]
    if node[0] == "neg" and (inner := percent(node[1])):
        return ("neg", inner)
    return None


class ExactOracle:
    """What compare.py asks of values, answered where rational arithmetic can. See compare.Oracle."""

    def values(self, gold: Node, answer: Node) -> bool:
        try:
            pairs = readings(gold, answer, lambda node: abs(value(node)))
            return any(same(value(left), value(right), left, right) for left, right in pairs)
        except NotExact:
            raise Undecided from None

    def position(self, node: Node) -> Fraction:
        try:
            return value(node)
        except NotExact:
            raise Undecided from None

    def ratio_sign(self, gold: Node, answer: Node) -> int:
        raise Undecided

    def same_equation(self, gold: Node, answer: Node) -> bool:
        raise Undecided

    def solve(self, relation: Node, name: str) -> Any:
        raise Undecided
