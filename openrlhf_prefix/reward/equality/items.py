r"""Two items of two lists: values, brackets, matrices, ratios, numerals, measures, phrases.

What has words on one side only is different, but for units, counted things and "for all x".
"""

from collections.abc import Sequence
from fractions import Fraction

from openrlhf_prefix.reward.equality.exact import Undecided, percent
from openrlhf_prefix.reward.equality.measures import (
    clock,
    formulas,
    has_words,
    meaning,
    measured,
    same_words,
    without_quantifier,
)
from openrlhf_prefix.reward.equality.oracle import either, every
from openrlhf_prefix.reward.equality.relations import Relations
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.cursor import Node


class Items(Relations):
    """Compares single items."""

    def matched_sets(self, golds: list[Node], answers: list[Node]) -> bool:
        raise NotImplementedError

    def item(self, gold: Node, answer: Node) -> bool:
        gold, answer = meaning(gold), meaning(answer)
        if gold == answer:
            return True
        if has_words(gold) or has_words(answer):
            return self._phrases(clock(gold), clock(answer))
        return self._plain(gold, answer)

    def _plain(self, gold: Node, answer: Node) -> bool:
        """Two items without words or units."""
        kinds = gold[0], answer[0]
        if "rel" in kinds or "cong" in kinds:
            return self.related(gold, answer)
        if "base" in kinds:
            return _numeral(gold) == _numeral(answer) and _numeral(gold) is not None and self._same_base(gold, answer)
        if kinds[0] in ("ratio", "time") or kinds[1] in ("ratio", "time"):
            return self._ratios(gold, answer)
        matrices = trees.matrix(gold), trees.matrix(answer)
        if any(matrices):
            return self._matrices(gold, answer, *matrices)
        if kinds == ("group", "group"):
            return self._groups(gold, answer)
        if kinds == ("cases", "cases"):
            rows = [[as_tuple(row) for row in node[1]] for node in (gold, answer)]
            return len(rows[0]) == len(rows[1]) and self._paired(rows[0], rows[1])
        if kinds == ("set", "set"):
            return self.matched_sets(list(gold[1:]), list(answer[1:]))
        if "set" in kinds and len(gold) == 2 == len(answer) and kinds[0] != kinds[1]:
            return self.item(*[node[1] if node[0] == "set" else node for node in (gold, answer)])
        if kinds[0] == kinds[1] and kinds[0] in ("union", "inter") and self._all(gold[1:], answer[:0:-1]):
            return True
        if kinds[0] == kinds[1] and kinds[0] in ("union", "inter", "minus", "list", "tuple"):
            return len(gold) == len(answer) and self._all(gold[1:], answer[1:])
        if set(kinds) & {
            "group",
            "set",
            "builder",
            "union",
            "inter",
            "minus",
            "empty",
            "name",
            "cases",
            "list",
            "tuple",
        }:
            return False
        return self.oracle.values(gold, answer)

    def _all(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        if len(golds) != len(answers):
            return False
        return every(*(lambda g=g, a=a: self.item(g, a) for g, a in zip(golds, answers, strict=True)))

    def _paired(self, golds: Sequence[Node], answers: list[Node]) -> bool:
        for gold in golds:
            doubt = None
            for index, answer in enumerate(answers):
                try:
                    if self.item(gold, answer):
                        del answers[index]
                        break
                except Undecided as undecided:
                    doubt = undecided
            else:
                if doubt:
                    raise doubt
                return False
        return True

    def _among(self, item: Node, others: Sequence[Node], flip: bool = False) -> bool:
        return either(*(lambda o=other: self.item(o, item) if flip else self.item(item, o) for other in others))

    def _groups(self, gold: Node, answer: Node) -> bool:
        brackets = gold[1] + gold[2], answer[1] + answer[2]
        if brackets[0] != brackets[1] and (len(gold) == 5 or not set(brackets) <= {"()", "[]"}):
            return False  # two numbers in brackets may be an interval, three are a vector in any
        return self._all(gold[3:], answer[3:])

    def _matrices(self, gold: Node, answer: Node, left, right) -> bool:
        if left is None or right is None:
            vector, other = (left, answer) if left is not None else (right, gold)
            entries = (
                [row[0] for row in vector] if len(vector[0]) == 1 else list(vector[0]) if len(vector) == 1 else []
            )
            if other[0] != "group" or not entries:
                return False
            return self._all(entries, other[3:]) if left is not None else self._all(other[3:], entries)
        if len(left) != len(right):
            return False
        return every(*(lambda p=p, q=q: self._all(p, q) for p, q in zip(left, right, strict=True)))

    def _same_base(self, gold: Node, answer: Node) -> bool:
        return gold[0] != answer[0] or gold[2] == answer[2]

    def _ratios(self, gold: Node, answer: Node) -> bool:
        if gold[0] == answer[0] == "time":
            return gold[1:] == answer[1:]
        left, right = ([*node[1:]] if node[0] in ("ratio", "time") else [node] for node in (gold, answer))
        if len(left) == 1 or len(right) == 1:
            sides = [side[0] if len(side) == 1 else ("div", *side) for side in (left, right) if len(side) < 3]
            return len(sides) == 2 and self.oracle.values(*sides)
        if len(left) != len(right):
            return False
        pairs = zip(left[1:], right[1:], strict=True)
        return every(*(lambda p=p: self.oracle.values(("mul", p[0], right[0]), ("mul", p[1], left[0])) for p in pairs))

    def _phrases(self, gold: Node, answer: Node) -> bool:
        if any(
            percent(one) and has_words(other) and not trees.has(other, "pct")
            for one, other in ((gold, answer), (answer, gold))
        ):
            return False
        return either(
            lambda: same_words(gold, answer) and self._all(formulas(gold), formulas(answer)),
            lambda: self._measures(gold, answer),
            lambda: self._without_quantifiers(gold, answer),
            lambda: self._plain(gold, answer) if "phrase" not in (gold[0], answer[0]) else False,
        )

    def _without_quantifiers(self, gold: Node, answer: Node) -> bool:
        left, right = without_quantifier(gold), without_quantifier(answer)
        return (left is None) != (right is None) and self.item(left or gold, right or answer)

    def _measures(self, gold: Node, answer: Node) -> bool:
        """Numbers with units: one missing unit stood in the question, two are converted."""
        left, right = measured(gold), measured(answer)
        if left is None or right is None:
            return False
        if (left.unit and percent(right.node)) or (right.unit and percent(left.node)):
            return False
        if left.unit and right.unit:
            if left.unit.dimensions != right.unit.dimensions:
                if left.radians is None or right.radians is None:
                    return False
                return self._plain(left.radians, right.radians)
            alike = left.unit == right.unit
            factors = [Fraction(1) if alike else side.factor for side in (left.unit, right.unit)]
            return self.item(trees.times(left.node, factors[0]), trees.times(right.node, factors[1]))
        if left.counted and right.counted:
            return False  # two nouns, which same_words has compared
        if (left.unit or right.unit) and (left.counted or right.counted):
            return False
        angles = [side.radians or side.node for side in (left, right)]
        return either(
            lambda: self.item(left.node, right.node),
            lambda: angles != [left.node, right.node] and self._plain(*angles),
        )


def as_tuple(row: Sequence[Node]) -> Node:
    return row[0] if len(row) == 1 else ("tuple", *row)


def _numeral(node: Node) -> str | None:
    """Digits of 052_8 or of 52, for the base may stand in the question."""
    if node[0] == "base":
        return node[1].lstrip("0")
    return str(node[1]) if node[0] == "num" and node[1].denominator == 1 else None
