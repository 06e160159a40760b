r"""Words around formulas: units, counted things, money, and the clauses that say nothing.

measured(5 \text{ cm})    == node 5, unit length     measured(8 apples) == node 8, counted
measured(n is even)       is None
"""

from dataclasses import dataclass
from fractions import Fraction

from openrlhf_prefix.reward.grammar import trees, units
from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.words import QUANTIFIERS, countable, norm, spelt

_ANGLE, _RADIAN = units.read(["degree"]), units.read(["radian"])
_HALF_DAYS = frozenset(("am", "pm"))


@dataclass(frozen=True)
class Measure:
    """A formula with what was said after it. `radians`: an angle as a number."""

    node: Node
    unit: units.Unit | None = None
    counted: bool = False
    radians: Node | None = None


def measured(item: Node) -> Measure | None:
    """The item as a value with a unit or a noun; None where its words say more than that."""
    degrees = _degrees(item)
    if degrees is not None:
        return Measure(degrees, _ANGLE, radians=_in_radians(degrees))
    if item[0] == "mul" and item[-1][0] == "phrase":  # 5 (cm)
        item = ("phrase", item[1] if len(item) == 3 else item[:-1], *item[-1][1:])
    if item[0] != "phrase":
        return None if trees.has(item, "phrase") else Measure(item)
    parts = list(item[1:])
    money = units.read([parts[0]]) if isinstance(parts[0], str) and len(parts) == 2 else None
    if money and not isinstance(parts[1], str):
        return Measure(parts[1], money)
    formulas = [index for index, part in enumerate(parts) if not isinstance(part, str)]
    if not formulas or formulas[0] != 0:
        return None
    if len(formulas) > 1:
        return _compound(parts, formulas)
    words = list(parts[1:])
    unit = units.read(words)
    if unit:
        radians = _in_radians(parts[0]) if unit == _ANGLE else parts[0] if unit == _RADIAN else None
        return Measure(parts[0], unit, radians=radians)
    value = parts[0][1][-1] if parts[0][0] == "rel" else parts[0]
    if trees.is_constant(value) and countable(words, value[0] == "div" or (value[0] == "num" and value[1] <= 1)):
        return Measure(parts[0], counted=True)
    return None


def _compound(parts: list[Node | str], formulas: list[int]) -> Measure | None:
    """2 hours 30 minutes: one dimension, summed."""
    total: list[Node] = []
    dimensions: tuple[tuple[str, int], ...] | None = None
    for start, end in zip(formulas, [*formulas[1:], len(parts)], strict=True):
        unit = units.read([str(part) for part in parts[start + 1 : end]])
        if unit is None or (dimensions is not None and unit.dimensions != dimensions):
            return None
        dimensions, node = unit.dimensions, parts[start]
        assert isinstance(node, tuple)  # `formulas` are the places of those
        total.append(trees.times(node, unit.factor))
    return Measure(("add", *total), units.Unit(dimensions or (), Fraction(1)))


def _degrees(item: Node) -> Node | None:
    """x of x degrees, its sign and the left side of an equation kept."""
    if item[0] == "deg":
        return item[1]
    if item[0] == "neg" and (inner := _degrees(item[1])):
        return ("neg", inner)
    if item[0] == "mul" and (inner := _degrees(item[-1])):
        return (*item[:-1], inner)
    if item[0] == "rel" and item[2] == ("=",) and (inner := _degrees(item[1][-1])):
        return ("rel", (*item[1][:-1], inner), item[2])
    return None


def _in_radians(node: Node) -> Node | None:
    if node[0] == "rel":
        return None
    return ("mul", node, ("div", ("const", "pi"), ("num", Fraction(180), None)))


def has_words(item: Node) -> bool:
    """Whether words or a unit stand around the item, not merely inside one of its brackets."""
    return item[0] == "phrase" or (item[0] == "mul" and item[-1][0] == "phrase") or _degrees(item) is not None


def meaning(item: Node) -> Node:
    """What words alone stand for, such as all real numbers; else the item."""
    if item[0] != "phrase":
        return item
    if item[1] == ("sym", "a") and len(item) > 2 and isinstance(item[2], str) and not item[2].endswith("s"):
        item = ("phrase", *item[2:])  # an article
    if not all(isinstance(part, str) for part in item[1:]):
        return item
    return spelt(list(item[1:])) or item


def clock(item: Node) -> Node:
    """8 pm as 8:00 pm."""
    if item[0] != "phrase" or not _HALF_DAYS & set(item[1:]):
        return item
    zero = ("num", Fraction(0), None)
    return tuple(("time", part, zero) if isinstance(part, tuple) and part[0] == "num" else part for part in item)


def formulas(item: Node) -> list[Node]:
    """The formulas among the words of an item."""
    if item[0] == "phrase":
        return [part for part in item[1:] if not isinstance(part, str)]
    return [item] if _spelled(item) is None else []


def same_words(gold: Node, answer: Node) -> bool:
    """The same words in the same order, with formulas at the same places; both must have words."""
    left, right = _shape(gold), _shape(answer)
    return left == right and any(left)


def _shape(item: Node) -> list[str]:
    """Words in one form each, and "" for a formula."""
    if item[0] != "phrase":
        return _spelled(item) or [""]
    found: list[str] = []
    for part in item[1:]:
        found.extend(norm([part]) if isinstance(part, str) else [""])
    return found


def _spelled(item: Node) -> list[str] | None:
    """c a t, a product of letters, may have been a word without its \\text."""
    if item[0] == "mul" and all(part[0] == "sym" and len(part[1]) == 1 for part in item[1:]):
        return norm(["".join(part[1] for part in item[1:]).lower()])
    return None


def without_quantifier(item: Node) -> Node | None:
    """f(x) = x for all x, without "for all x"; None where there is none."""
    if item[0] != "phrase":
        return None
    parts = item[1:]
    for opening in QUANTIFIERS:
        for at in range(1, len(parts) - len(opening)):
            rest = parts[at + len(opening) :]
            if parts[at : at + len(opening)] == opening and _says_nothing(rest):
                kept = parts[:at]
                return kept[0] if len(kept) == 1 and not isinstance(kept[0], str) else ("phrase", *kept)
    return None


_DECLARED = frozenset(("real", "integer", "number", "constant", "arbitrary", "any", "some", "natural", "all"))


def _says_nothing(parts: tuple[Node | str, ...]) -> bool:
    """x, real x, x in R, C is a constant: it names the variables and limits none of them."""
    for part in parts:
        if isinstance(part, str):
            if norm([part]) and norm([part])[0] not in _DECLARED:
                return False
        elif part[0] != "sym" and not (part[0] == "rel" and part[2] == ("in",) and part[1][1][0] == "name"):
            return False
    return True
