r"""Equations, inequalities, memberships and congruences.

x = 5 and 5, y = 2x and 2x: a name may be left out            x = 5 and y = 5 differ
2x - y = 0 and y = 2x: one is a multiple of the other         n = 4k + 1 and n = 1 (mod 4) are one congruence
"""

from collections.abc import Sequence
from fractions import Fraction

from openrlhf_prefix.reward.equality.lists import PARAMETER
from openrlhf_prefix.reward.equality.oracle import Oracle, either
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.cursor import Node

_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne", "equiv": "equiv", "approx": "approx"}
_INTEGER_NAMES = ("k", "m", "n", "t", PARAMETER)
_EQUAL = frozenset(("=", "approx", "equiv"))


class Relations:
    """Compares relations with each other and with values; what stands on their sides is compared as items."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def item(self, gold: Node, answer: Node) -> bool:
        raise NotImplementedError

    def _all(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        raise NotImplementedError

    def related(self, gold: Node, answer: Node) -> bool:
        if "cong" in (gold[0], answer[0]):
            return self._congruences(gold, answer)
        if gold[0] == answer[0] == "rel":
            return self._relations(_collapsed(gold), _collapsed(answer))
        if answer[0] == "rel":
            value = self._value_of(answer)
            return value is not None and self.item(gold, value)
        gold = _collapsed(gold)
        if gold[2] == ("in",) and gold[1][0][0] == "sym":
            return self.item(gold[1][1], answer)
        if gold[2] == ("=",) and trees.is_name(gold[1][0]):
            return self.item(gold[1][1], answer)
        return gold[2] == ("=",) and trees.is_name(gold[1][1]) and self.item(gold[1][0], answer)

    def _value_of(self, answer: Node) -> Node | None:
        """What an answered equation gives: its last side, or the first if that is the number; None if it is false."""
        if answer[2] == ("in",):
            return answer[1][1]
        if not set(answer[2]) <= _EQUAL:
            return None
        first = answer[1][0]
        if len(trees.symbols(first)) == 1 and not trees.is_name(first) and not trees.has(first, "app"):
            return None  # 2x = 10 says that x is 5
        if len(trees.symbols(first)) > 1 and not trees.is_name(first) and _is_curve(first, answer[1][-1]):
            return None
        if not self._is_near(answer):
            return None
        exact = answer[1][: answer[2].index("approx") + 1] if "approx" in answer[2] else answer[1]
        exact = answer[1][1:] if len(exact) == 1 and not trees.is_constant(exact[0]) else exact
        known = [part for part in exact if trees.is_constant(part)]
        if any(not self.oracle.values(known[0], part) for part in known[1:]):
            return None
        return exact[0] if known and not trees.is_constant(exact[-1]) else exact[-1]

    def _is_near(self, relation: Node) -> bool:
        """Whether a number after an approximation sign is within a tenth of the one before it."""
        for operator, left, right in zip(relation[2], relation[1], relation[1][1:], strict=False):
            if operator == "approx" and trees.is_constant(left) and trees.is_constant(right):
                exact, near = self.oracle.position(left), self.oracle.position(right)
                if abs(exact - near) * 10 > abs(exact):
                    return False
        return True

    def _relations(self, gold: Node, answer: Node) -> bool:
        (_, left, left_ops), (_, right, right_ops) = gold, answer
        flipped = tuple(_FLIPPED.get(op, op + "?") for op in reversed(right_ops))
        pairwise = [
            lambda: left_ops == right_ops and self._all(left, right),
            lambda: left_ops == flipped and self._all(left, right[::-1]),
        ]
        if len(left) != 2 or len(right) != 2 or left_ops[0] not in _FLIPPED or right_ops[0] not in _FLIPPED:
            return either(*pairwise)
        if trees.has(gold, "group", "set", "matrix", "union", "phrase", "name", "interval"):
            return either(*pairwise)
        sides = [("add", parts[0], ("neg", parts[1])) for parts in (left, right)]
        if left_ops == right_ops == ("=",):
            if all(trees.is_name(parts[0]) for parts in (left, right)) and left[0] == right[0]:
                return self.item(left[1], right[1])
            return either(*pairwise, lambda: self.oracle.same_equation(*sides))
        wanted = 1 if left_ops == right_ops else -1 if left_ops == flipped else 0
        if left_ops == right_ops == ("ne",):
            return either(*pairwise, lambda: self.oracle.ratio_sign(*sides) != 0)
        return either(*pairwise, lambda: wanted != 0 and self.oracle.ratio_sign(*sides) == wanted)

    def _congruences(self, gold: Node, answer: Node) -> bool:
        left, right = _residue(gold, self.oracle), _residue(answer, self.oracle)
        if left is None or right is None or not self.oracle.values(left[2], right[2]):
            return False
        if any(side[0] is not None and not trees.is_name(side[0]) for side in (left, right)):
            return False
        if left[0] is not None and right[0] is not None and not self.item(left[0], right[0]):
            return False
        quotient = ("div", ("add", left[1], ("neg", right[1])), left[2])
        if trees.is_constant(quotient):
            return self.oracle.values(quotient, ("call", "floor", quotient))
        return self.item(left[1], right[1])


def _is_curve(left: Node, right: Node) -> bool:
    """x - y + 1 = 0, 3x + 4y = 12 and (x - 1)^2 + y^2 = 4 are equations; a + b = 12 says what a + b is."""
    terms = [term for one in trees.nodes(left) if one[0] == "add" for term in one[1:]]
    factors = [factor for term in terms if term[0] == "mul" for factor in term[1:]]
    return right == ("num", 0, None) or any(map(trees.is_constant, (*terms, *factors)))


def _collapsed(node: Node) -> Node:
    """x = 5 + 6 = 11 says x = 11; what stands after an approximation sign is less exact than what stands before."""
    _, parts, operators = node
    if len(operators) > 1 and set(operators) <= _EQUAL:
        exact = parts[: operators.index("approx") + 1] if "approx" in operators else parts
        if len(exact) > 1:
            return ("rel", (exact[0], exact[-1]), ("=",))
    return ("rel", parts, tuple("=" if operator in _EQUAL else operator for operator in operators))


def _residue(node: Node, oracle: Oracle) -> tuple[Node | None, Node, Node] | None:
    """Name, residue and modulus of n = 1 (mod 3), 1 (mod 3), n mod 3 = 1, n = 3k + 1, 3k + 1; else None."""
    if node[0] == "cong":
        parts = node[1]
        name = parts[0] if len(parts) > 1 and parts[0] != ("sym", "") else None
        return name, parts[-1], node[2]
    if node[0] == "rel" and node[2] == ("=",) and node[1][0][0] == "mod":
        return node[1][0][1], node[1][1], node[1][0][2]
    named = node[0] == "rel" and node[2] == ("=",) and trees.is_name(node[1][0])
    body = node[1][1] if named else node
    names = trees.symbols(body)
    if node[0] == "rel" and not named or len(names) != 1 or (named and names & trees.symbols(node[1][0])):
        return None
    if not named and not next(iter(names)).startswith(_INTEGER_NAMES):
        return None
    at = [trees.replaced(body, ("sym", next(iter(names))), ("num", Fraction(k), None)) for k in (0, 1, 2)]
    step = ("add", at[1], ("neg", at[0]))
    if not oracle.values(step, ("add", at[2], ("neg", at[1]))):
        return None
    return node[1][0] if named else None, at[0], step
