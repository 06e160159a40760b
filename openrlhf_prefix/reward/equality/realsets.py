r"""Sets of real numbers as unions of intervals: (1,2), x \in (1,2), 1 < x < 2 and \{x \mid 1 < x < 2\} are one set.

A piece is (low, low closed, high, high closed); an end is (position, node), the position a Fraction or an infinity.
What needs more than positions, such as x^2 < 4, is left to `solve` of whoever asks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from openrlhf_prefix.reward.equality.exact import Undecided
from openrlhf_prefix.reward.equality.measures import meaning
from openrlhf_prefix.reward.grammar.answers import Answer
from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.trees import is_constant, symbols

End = tuple[Any, Node]  # position: Fraction, or float infinity
Piece = tuple[End, bool, End, bool]

INFINITY = ("const", "inf")
LOW: End = (float("-inf"), ("neg", INFINITY))
HIGH: End = (float("inf"), INFINITY)
ALL: list[Piece] = [(LOW, False, HIGH, False)]
_INTEGERS = tuple(((("name", name)),) for name in ("Z", "N", "N+"))
FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne"}


@dataclass(frozen=True)
class RealSet:
    """Disjoint pieces in order; `name` of the variable if one was given; `plain` if it is only points or one pair."""

    pieces: tuple[Piece, ...]
    name: str | None = None
    plain: bool = False


class NoSet(Exception):
    """The item describes no set of real numbers."""


class SetReader:
    """Reads items as sets.

    Args:
        position: of a constant formula; raises Undecided or NoSet.
        solve: pieces that satisfy a relation of one variable; raises Undecided or NoSet.
    """

    def __init__(self, position: Callable[[Node], Any], solve: Callable[[Node, str], list[Piece]]) -> None:
        self._position, self._solve = position, solve

    def answer(self, answer: Answer) -> RealSet:
        """All items together: "or" unites, "and" intersects; a comma does what leaves something. Raises NoSet."""
        sets = [self.item(meaning(item)) for item in answer.items]
        if not sets:
            raise NoSet
        names = {one.name for one in sets if one.name is not None}
        if len(names) > 1 or (len(sets) > 1 and any(item[0] == "group" for item in answer.items)):
            raise NoSet
        found = sets[0].pieces
        for before, one, join in zip(sets, sets[1:], answer.joins[1:], strict=False):
            both = () if join == "or" or before.plain or one.plain else intersection(found, one.pieces)
            found = (
                tuple(both)
                if both or join == "and" and not (before.plain or one.plain)
                else tuple(union(found, one.pieces))
            )
        return RealSet(tuple(found), next(iter(names), None), all(one.plain for one in sets))

    def item(self, node: Node) -> RealSet:
        kind = node[0]
        if kind == "group" and len(node) == 5:
            low, high = self._end(node[3]), self._end(node[4])
            infinite = low is LOW or high is HIGH
            if not low[0] < high[0]:
                raise NoSet
            piece = (low, node[1] == "[", high, node[2] == "]")
            return RealSet((piece,), plain=not infinite and node[1] + node[2] in ("()", "[]"))
        if kind == "rel":
            return self._relation(node)
        if kind == "builder":
            return self._builder(node)
        if kind in ("union", "inter", "minus"):
            left, right = self.item(node[1]).pieces, self.item(node[2]).pieces
            return RealSet(tuple(_COMBINE[kind](left, right)))
        if kind == "name" and node[1] == "R":
            return RealSet(tuple(ALL))
        if kind == "empty":
            return RealSet(())
        if kind == "set":
            return RealSet(tuple(union(*(self.point(part) for part in node[1:]))), plain=True)
        return RealSet(self.point(node), plain=True)

    def point(self, node: Node) -> tuple[Piece, ...]:
        end = self._end(node)
        if end is LOW or end is HIGH:
            raise NoSet
        return ((end, True, end, True),)

    def _end(self, node: Node) -> End:
        if node in (LOW[1], ("neg", INFINITY)):
            return LOW
        if node == INFINITY:
            return HIGH
        if not is_constant(node):
            raise NoSet
        return self._position(node), node

    def _builder(self, node: Node) -> RealSet:
        head, *conditions = node[1:]
        found, name = tuple(ALL), None
        if head[0] == "rel" and head[2] == ("in",):
            conditions.insert(0, head)
            head = head[1][0]
        if head[0] != "sym" or not conditions:
            raise NoSet
        integers = [one[1][1][1] for one in conditions if one[:1] == ("rel",) and one[1][1:] in _INTEGERS]
        for condition in conditions:
            if condition[0] == "rel" and condition[1][1:] in _INTEGERS and condition[2] == ("in",):
                continue
            options = condition[1:] if condition[0] == "either" else (condition,)
            sets = [self._relation(option) for option in options if option[0] == "rel"]
            if len(sets) != len(options) or any(one.name not in (None, head[1]) for one in sets):
                raise NoSet
            found = tuple(intersection(found, union(*(one.pieces for one in sets))))
        return RealSet(self._integers(found, integers[0]) if integers else found, name)

    def _integers(self, pieces: tuple[Piece, ...], name: str) -> tuple[Piece, ...]:
        """The integers in them, one by one. Raises NoSet where they never end."""
        least = {"Z": None, "N": 0, "N+": 1}[name]
        found: list[Node] = []
        for low, low_closed, high, high_closed in pieces:
            start = low[0] if least is None else max(low[0], least)
            if math.isinf(start) or math.isinf(high[0]) or high[0] - start > 200:
                raise NoSet
            inside = range(math.ceil(start), math.floor(high[0]) + 1)
            found += [
                ("num", Fraction(k), None)
                for k in inside
                if (k > low[0] or low_closed) and (k < high[0] or high_closed)
            ]
        return tuple(union(*(self.point(one) for one in found)))

    def _relation(self, node: Node) -> RealSet:
        _, parts, operators = node
        if operators in (("in",), ("notin",)) and parts[0][0] == "sym":
            inner = self.item(parts[1]).pieces
            found = inner if operators == ("in",) else complement(inner)
            return RealSet(tuple(found), parts[0][1] or None)
        if not set(operators) <= set(FLIPPED):
            raise NoSet
        parts = _one_variable(parts)
        names = set().union(*(symbols(part) for part in parts))
        if len(names) != 1:
            raise NoSet
        name = next(iter(names))
        found = tuple(ALL)
        for left, operator, right in zip(parts, operators, parts[1:], strict=False):
            found = tuple(intersection(found, self._half(left, operator, right, name)))
        return RealSet(found, name or None, plain=set(operators) == {"="})

    def _half(self, left: Node, operator: str, right: Node, name: str) -> tuple[Piece, ...] | list[Piece]:
        variable = ("sym", name)
        if right == variable and is_constant(left):
            left, operator, right = right, FLIPPED[operator], left
        if left != variable or not is_constant(right):
            if is_constant(left) and is_constant(right):
                raise NoSet
            return self._solve(("rel", (left, right), (operator,)), name)
        end = self._end(right)
        if operator == "=":
            return self.point(right)
        if operator == "ne":
            return complement(self.point(right))
        if operator in ("<", "le"):
            return [(LOW, False, end, operator == "le")]
        return [(end, operator == "ge", HIGH, False)]


def _one_variable(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """0 < f(x) < 1 says of f(x) what 0 < y < 1 says of y."""
    varying = [part for part in parts if not is_constant(part)]
    if len(varying) != 1 or varying[0][0] != "app":
        return parts
    return tuple(("sym", repr(part)) if part is varying[0] else part for part in parts)


def union(*sets: Any) -> list[Piece]:
    """Pieces in order, those that overlap or touch joined."""
    pieces = sorted((piece for one in sets for piece in one), key=lambda piece: (piece[0][0], not piece[1]))
    found: list[Piece] = []
    for piece in pieces:
        if found:
            low, low_closed, high, high_closed = found[-1]
            if piece[0][0] < high[0] or (piece[0][0] == high[0] and (piece[1] or high_closed)):
                if (piece[2][0], piece[3]) > (high[0], high_closed):
                    high, high_closed = piece[2], piece[3]
                found[-1] = (low, low_closed or (piece[0][0] == low[0] and piece[1]), high, high_closed)
                continue
        found.append(piece)
    return found


def intersection(left: Any, right: Any) -> list[Piece]:
    found = []
    for a in left:
        for b in right:
            low, low_closed = max((a[0], a[1]), (b[0], b[1]), key=lambda end: (end[0][0], not end[1]))
            high, high_closed = min((a[2], a[3]), (b[2], b[3]), key=lambda end: (end[0][0], end[1]))
            if low[0] < high[0] or (low[0] == high[0] and low_closed and high_closed):
                found.append((low, low_closed, high, high_closed))
    return union(found)


def complement(pieces: Any) -> list[Piece]:
    found, low, closed = [], LOW, False
    for piece in union(pieces):
        if piece[0][0] > low[0] or (piece[0][0] == low[0] and closed and not piece[1]):
            found.append((low, closed, piece[0], not piece[1]))
        low, closed = piece[2], not piece[3]
    if low is not HIGH:
        found.append((low, closed, HIGH, False))
    return found


_COMBINE = {"union": union, "inter": intersection, "minus": lambda a, b: intersection(a, complement(b))}

__all__ = ["ALL", "NoSet", "RealSet", "SetReader", "Undecided", "complement", "intersection", "union"]
