r"""The value of a formula at a point, in mpmath's numbers: whatever precision is set where it is called.

An unknown function f or a sequence a_n is replaced by some analytic function of the same name. Odd roots of negative
numbers are real unless the formula speaks of i. Runs in a worker alone: mpmath comes with sympy.
"""

import random
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath

from openrlhf_prefix.reward.equality import exact
from openrlhf_prefix.reward.equality.exact import Undecided
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.cursor import Node

_MAX_TERMS = 20_000
DEGREE = "\\degree"  # names of what is no variable: the value of a degree sign outside of sin and its like,
SALT = "\\salt"  # and what makes f and a_1 others at every point, as the variables are

Number = Any  # mpf or mpc


class NoValue(Exception):
    """The formula has no value at this point."""


class NotEvaluable(Undecided):
    """The formula has no value that can be worked out here: an infinite series, too few points."""


class Evaluator:
    """Values of formulas with given variables; `scale` is the largest summand met, which bounds the rounding error."""

    def __init__(self, names: dict[str, Number], log_base: Number | None = None) -> None:
        self.names, self.log_base, self.scale, self._in_call = names, log_base, mpmath.mpf(0), False
        self._salt = names.get(SALT, 0)
        self.complex = False

    def __call__(self, node: Node) -> Number:
        kind = node[0]
        method = getattr(self, f"_{kind}", None)
        if method is None:
            raise NotEvaluable(kind)
        return method(*node[1:])

    def _num(self, number: Fraction, places: int | None) -> Number:
        return mpmath.mpf(number.numerator) / number.denominator

    def _sym(self, name: str) -> Number:
        if name in self.names:
            return self.names[name]
        if name == "i":
            return mpmath.mpc(0, 1)
        raise NoValue(name)

    def _const(self, name: str) -> Number:
        if name == "inf":
            return mpmath.inf
        return +mpmath.pi if name == "pi" else +mpmath.e

    def _add(self, *terms: Node) -> Number:
        values = [self(term) for term in terms]
        for value in values:
            self.scale = max(self.scale, abs(value))
        return mpmath.fsum(values)

    def _mul(self, *factors: Node) -> Number:
        return mpmath.fprod(self(factor) for factor in factors)

    def _div(self, above: Node, below: Node) -> Number:
        return self(above) / self(below)

    def _neg(self, node: Node) -> Number:
        return -self(node)

    def _pct(self, node: Node) -> Number:
        return self(node) / 100

    def _deg(self, node: Node) -> Number:
        if self._in_call or DEGREE not in self.names:
            return self(node) * mpmath.pi / 180
        return self(node) * self.names[DEGREE]

    def _pow(self, base: Node, exponent: Node) -> Number:
        below, above = self(base), self(exponent)
        if exponent[0] == "div" and mpmath.im(below) == 0 and below < 0 and not self.complex:
            return _odd_power(below, exponent)
        if below == 0 and mpmath.re(above) <= 0:
            raise NoValue("0^0")
        return below**above

    def _fact(self, node: Node) -> Number:
        return mpmath.factorial(self(node))

    def _binom(self, n: Node, k: Node) -> Number:
        return mpmath.binomial(self(n), self(k))

    def _perm(self, n: Node, k: Node) -> Number:
        top, count = self(n), self(k)
        return mpmath.factorial(top) / mpmath.factorial(top - count)

    def _mod(self, a: Node, b: Node) -> Number:
        return mpmath.fmod(self(a), self(b))

    def _app(self, name: str | Node, *arguments: Node) -> Number:
        """An unknown function: sin(c + k_1 x_1 + k_2 x_2 ..), with c and k from its name."""
        values = [self(inner) for argument in arguments for inner in _flat(argument)]
        values += [] if isinstance(name, str) else [self(inner) for inner in name[2:]]
        numbers = _seeded(name if isinstance(name, str) else str(name[1]))
        angle = next(numbers) * (1 + self._salt) + mpmath.fsum(next(numbers) * value for value in values)
        return mpmath.sin(angle) + 2

    def _call(self, name: str, *arguments: Node) -> Number:
        outer, self._in_call = self._in_call, name in _ANGULAR or self._in_call
        values = [self(argument) for argument in arguments]
        self._in_call = outer
        if name == "log":
            return mpmath.log(values[0]) / (self.log_base or 1)
        if name == "log_":
            return mpmath.log(values[0]) / mpmath.log(values[1])
        if name not in _FUNCTIONS:
            raise NotEvaluable(name)
        return _FUNCTIONS[name](*values)

    def _sum(self, *series: Any) -> Number:
        return mpmath.fsum(self._terms(*series))

    def _prod(self, *series: Any) -> Number:
        return mpmath.fprod(self._terms(*series))

    def _terms(self, variable: str, low: Node, high: Node, body: Node) -> Iterator[Number]:
        first, last = self(low), self(high)
        if not mpmath.isfinite(first) or not mpmath.isfinite(last) or mpmath.re(last - first) > _MAX_TERMS:
            raise NotEvaluable("a series of too many terms")
        if not (mpmath.isint(first) and mpmath.isint(last)):
            raise NoValue("a series that does not end at an integer")
        saved = self.names.get(variable)
        for k in range(int(first), int(last) + 1):
            self.names[variable] = mpmath.mpf(k)
            value = self(body)
            self.scale = max(self.scale, abs(value))
            yield value
        self.names.pop(variable, None)
        if saved is not None:
            self.names[variable] = saved


def _odd_power(base: Number, exponent: Node) -> Number:
    """(-8)^{2/3} = 4, as long as nothing speaks of complex numbers."""
    power = exact.value(exponent) if trees.is_constant(exponent) else Fraction(1, 2)
    if power.denominator % 2 == 0:
        return base ** (mpmath.mpf(power.numerator) / power.denominator)
    return _root(base, mpmath.mpf(power.denominator)) ** power.numerator


def _root(value: Number, index: Number) -> Number:
    real = mpmath.im(value) == 0
    if real and value < 0 and mpmath.isint(index) and int(index) % 2:
        return -mpmath.root(-value, int(index))
    return mpmath.root(value, int(index)) if mpmath.isint(index) else value ** (1 / index)


_ANGULAR = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "cis"))
_SAME_NAME = "sin cos tan cot sec csc sinh cosh tanh asin acos atan exp"
_FUNCTIONS = {
    **{name: getattr(mpmath, name) for name in _SAME_NAME.split()},
    **{"ln": mpmath.log, "lg": mpmath.log10, "abs": abs, "floor": mpmath.floor, "ceil": mpmath.ceil, "root": _root},
    **{"coth": mpmath.coth, "cis": mpmath.expj},
    **{"arg": mpmath.arg, "Re": mpmath.re, "Im": mpmath.im, "sgn": mpmath.sign, "fact2": mpmath.fac2},
    **{"max": lambda *a: max(a), "min": lambda *a: min(a)},
}


def _flat(node: Node) -> tuple[Node, ...]:
    return node[3:] if node[0] == "group" else (node,)


def _seeded(name: str) -> Iterator[Number]:
    numbers = random.Random(zlib.crc32(name.encode()))
    while True:
        yield mpmath.mpf(numbers.uniform(0.3, 1.7))
