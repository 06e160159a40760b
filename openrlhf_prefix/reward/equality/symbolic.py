r"""What needs algebra: inequalities such as x^2 < 4; equations that are no multiples of each other (xy = 1, y = 1/x).

sympy solves them; it is imported with the first that comes.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy

from openrlhf_prefix.reward.equality.realsets import HIGH, LOW, NoSet, Piece
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.cursor import Node

_RELATIONS = {"<": sympy.Lt, ">": sympy.Gt, "le": sympy.Le, "ge": sympy.Ge, "=": sympy.Eq, "ne": sympy.Ne}
_SAME_NAME = "sin cos tan cot sec csc sinh cosh tanh asin acos atan exp"
_FUNCTIONS = {
    **{name: getattr(sympy, name) for name in _SAME_NAME.split()},
    **{"ln": sympy.log, "log": sympy.log, "lg": lambda x: sympy.log(x, 10), "abs": sympy.Abs, "floor": sympy.floor},
    **{"ceil": sympy.ceiling, "root": lambda x, n: sympy.root(x, n), "log_": lambda x, b: sympy.log(x, b)},
    **{"max": sympy.Max, "min": sympy.Min},
}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *a: sympy.Add(*a),
    "mul": lambda *a: sympy.Mul(*a),
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "fact": sympy.factorial,
    "binom": sympy.binomial,
}


def to_sympy(node: Node) -> Any:
    """The formula as a sympy expression with real variables. Raises NoSet for what it does not cover."""
    kind = node[0]
    if kind == "num":
        return sympy.Rational(node[1].numerator, node[1].denominator)
    if kind == "sym":
        return sympy.I if node[1] == "i" else sympy.Symbol(node[1], real=True)
    if kind == "const":
        return {"pi": sympy.pi, "e": sympy.E, "inf": sympy.oo}[node[1]]
    if kind == "call" and node[1] in _FUNCTIONS:
        return _FUNCTIONS[node[1]](*(to_sympy(part) for part in node[2:]))
    if kind in _OPERATIONS:
        return _OPERATIONS[kind](*(to_sympy(part) for part in node[1:]))
    raise NoSet(kind)


def solutions(relation: Node, name: str, position: Callable[[Node], Fraction]) -> list[Piece]:
    """Pieces of the real line that satisfy a relation of one variable. Raises NoSet where sympy finds none."""
    _, (left, right), (operator,) = relation
    condition = _RELATIONS[operator](to_sympy(left), to_sympy(right))
    if condition in (sympy.true, sympy.false):
        raise NoSet
    try:
        found = condition.as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        raise NoSet from None
    return [piece for part in _parts(found) for piece in _piece(part, position)]


def _parts(found: Any) -> tuple[Any, ...]:
    return found.args if isinstance(found, sympy.Union) else (found,)


def _piece(part: Any, position: Callable[[Node], Fraction]) -> list[Piece]:
    if isinstance(part, sympy.FiniteSet):
        return [(end, True, end, True) for end in (_end(number, position) for number in part)]
    if part is sympy.S.EmptySet:
        return []
    if part is sympy.S.Reals:
        return [(LOW, False, HIGH, False)]
    if not isinstance(part, sympy.Interval):
        raise NoSet
    low = LOW if part.start == -sympy.oo else _end(part.start, position)
    high = HIGH if part.end == sympy.oo else _end(part.end, position)
    return [(low, not part.left_open, high, not part.right_open)]


def _end(number: Any, position: Callable[[Node], Fraction]) -> tuple[Fraction, Node]:
    node = _from_sympy(number)
    return position(node), node


def _from_sympy(number: Any) -> Node:
    """A number that sympy found, as a formula."""
    if number.is_Rational:
        return ("num", Fraction(int(number.p), int(number.q)), None)
    if number is sympy.pi or number is sympy.E:
        return ("const", "pi" if number is sympy.pi else "e")
    kinds = {sympy.Add: "add", sympy.Mul: "mul", sympy.Pow: "pow"}
    if type(number) in kinds:
        return (kinds[type(number)], *(_from_sympy(part) for part in number.args))
    if isinstance(number, sympy.log):
        return ("call", "ln", _from_sympy(number.args[0]))
    raise NoSet


def same_solutions(gold: Node, answer: Node) -> bool:
    """Whether gold = 0 and answer = 0 give the same formula for one of their variables, solved for it."""
    names = trees.symbols(gold)
    if (
        names != trees.symbols(answer)
        or not 2 <= len(names) <= 4
        or trees.has(gold, "app")
        or trees.has(answer, "app")
    ):
        return False
    try:
        left, right = to_sympy(gold), to_sympy(answer)
        for name in sorted(names):
            variable = sympy.Symbol(name, real=True)
            solved = [sympy.solve(side, variable) for side in (left, right)]
            if solved[0] and len(solved[0]) == len(solved[1]):
                rest = list(solved[1])
                for one in solved[0]:
                    match = next((other for other in rest if sympy.simplify(one - other) == 0), None)
                    if match is None:
                        return False
                    rest.remove(match)
                return True
    except (NoSet, NotImplementedError, TypeError, ValueError):
        return False
    return False
