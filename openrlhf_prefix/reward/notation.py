r"""What math-verify misses for want of another reading. Each may only add an "equal"; imported by the worker alone.

    plain(r"\langle 1,2\rangle") == "(1,2)"      notations that its parser does not know
    imaginary(i**2)              == -1           i is a variable to it where it stands beside a digit or a bracket
    solution_sets(2*x > 6, ...)  == (3, oo), ... inequalities of one unknown are equal when their solutions are

sympy is what math-verify works with, and comes with it.
"""

import re
from typing import Any

from sympy import And, I, Set
from sympy.core.relational import Relational

_RELATIONS = (And, Relational)
_REWRITES = [
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\langle(?![A-Za-z])"), "("),
    (re.compile(r"\\rangle(?![A-Za-z])"), ")"),
    (re.compile(r"(?<=\d)\\,(?=\d{3}(?!\d))"), ""),  # 10\,000; math-verify makes it 10 * 0
    (re.compile(r"\\(begin|end)\{[bB]matrix\}"), r"\\\1{pmatrix}"),  # not vmatrix: that is a determinant
]


def plain(latex: str) -> str:
    """The same mathematics in the notation that math-verify's parser knows."""
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    return latex


def imaginary(items: list[Any]) -> list[Any]:
    """Items with the imaginary unit in place of a free variable i; relations, where i can only count, are left."""

    def read(item: Any) -> Any:
        symbols = [] if isinstance(item, (str, *_RELATIONS)) else item.free_symbols
        units = {symbol: I for symbol in symbols if symbol.name == "i"}
        return item.subs(units) if units else item

    return [read(item) for item in items]


def solution_sets(golds: list[Any], answers: list[Any]) -> tuple[list[Set], list[Set]] | None:
    """Real solutions of both sides, where a relation becomes one and a set is one; None without a relation.

    None also for relations of several unknowns, or of one that is not the same on both sides (x = 5 is not y = 5).
    """
    relations = [item for item in golds + answers if isinstance(item, _RELATIONS)]
    if len({symbol.name for relation in relations for symbol in relation.free_symbols}) != 1:
        return None
    try:
        golds, answers = ([i.as_set() if isinstance(i, _RELATIONS) else i for i in side] for side in (golds, answers))
    except NotImplementedError:  # sin x > 0 has infinitely many pieces
        return None
    return [item for item in golds if isinstance(item, Set)], [item for item in answers if isinstance(item, Set)]
