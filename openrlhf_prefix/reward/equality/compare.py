r"""Whether two answers are equal, by what they are: choices, lists, tuples, named values, sets of numbers.

    Judge(oracle).answers(read("x=1, y=2"), read("(1,2)")) is True

The gold stands first, for it says what has to be there. Only values are asked of the oracle: exact.py's rationals in
the trainer's process, numeric.py in a worker. It raises Undecided where it cannot tell.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from openrlhf_prefix.reward.equality.items import Items, as_tuple
from openrlhf_prefix.reward.equality.lists import PARAMETER, bundles, parameters, spread
from openrlhf_prefix.reward.equality.oracle import Oracle, either, every
from openrlhf_prefix.reward.equality.realsets import NoSet, Piece, SetReader
from openrlhf_prefix.reward.grammar.answers import Answer
from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.trees import replaced

_SETLIKE = frozenset(("rel", "group", "union", "inter", "minus", "builder", "name", "empty"))


class Judge(Items):
    """Compares whole answers."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(oracle)
        self._reader = SetReader(oracle.position, oracle.solve)

    def answers(self, gold: Answer, answer: Answer) -> bool:
        if gold.choice or answer.choice:
            verdict = self._choices(gold, answer)
            if verdict is not None:
                return verdict
        if not gold.items or not answer.items:
            return False
        (family, left), (other, right) = parameters(gold), parameters(answer)
        if not left or not right:
            return self._items(gold, answer)
        if sorted(left) != sorted(right):
            return False
        return either(*(lambda one=one: self._items(family, one) for one in _shifted(other, right)))

    def _items(self, gold: Answer, answer: Answer) -> bool:
        named = self._bundles(gold, answer)
        if named is not None:
            return named()
        return either(
            lambda: not _conflict(gold, answer) and self._lists(gold, answer), lambda: self._sets(gold, answer)
        )

    def _choices(self, gold: Answer, answer: Answer) -> bool | None:
        """The letters count where both have one; what follows them where both have that."""
        if gold.choice and answer.choice:
            (left, left_rest), (right, right_rest) = gold.choice, answer.choice
            if left_rest is None and right_rest is None and left != right:
                return None  # two variables, perhaps of one value
            rests = left_rest is None or right_rest is None or self.answers(left_rest, right_rest)
            return left == right and rests
        labelled, other = (gold, answer) if gold.choice else (answer, gold)
        if labelled.choice is None or labelled.choice[1] is None:
            return None
        rest = labelled.choice[1]
        return self.answers(rest, other) if labelled is gold else self.answers(other, rest)

    def _lists(self, gold: Answer, answer: Answer) -> bool:
        attempts: list[tuple[Any, Any]] = []
        for together in (True, False):
            golds, answers = spread(gold.items, together), spread(answer.items, together)
            if together or (golds, answers) != attempts[0]:
                attempts.append((golds, answers))
        return either(*(lambda pair=pair: self._matched(*pair) for pair in attempts))

    def _matched(self, golds: tuple[bool, list[Node]], answers: tuple[bool, list[Node]]) -> bool:
        (gold_set, left), (answer_set, right) = golds, answers
        if len(left) == 1 and len(right) > 1 and not answer_set:
            return self._letters(left[0], right)
        if len(right) == 1 and len(left) > 1 and not gold_set:
            return self._letters(right[0], left)
        if gold_set or answer_set:
            return self.matched_sets(left, right)
        if len(left) < len(right) and not any(self._among(item, left[:at]) for at, item in enumerate(left)):
            return self.matched_sets(left, right)  # what is said twice is said once
        if len(left) != len(right):
            return False
        if len(left) == 1:
            return self.item(left[0], right[0])
        return self._paired(left, list(right))

    def _letters(self, one: Node, many: list[Node]) -> bool:
        """ABD and A, B, D."""
        if one[0] != "mul" or any(part[0] != "sym" or not part[1].isupper() for part in (*one[1:], *many)):
            return False
        return sorted(part[1] for part in one[1:]) == sorted(part[1] for part in many)

    def _bundles(self, gold: Answer, answer: Answer) -> Callable[[], bool] | None:
        """x=1, y=2: values go by their names, and without names by their order. None where that does not apply."""
        left, right = bundles(gold), bundles(answer)
        if left is None or right is None:
            known, other = (left, answer) if left else (right, gold)
            unsolved = any(item[0] in ("rel", "cases") for item in other.items)
            return (lambda: False) if known and known.names and not unsolved else None
        if left.names is None and right.names is None and left.listed == right.listed:
            return None
        if left.names is not None and right.names is not None:
            if sorted(left.names) != sorted(right.names):
                return None
            right = right.ordered([right.names.index(name) for name in left.names])
        if len(left.rows) != len(right.rows):
            return lambda: False
        return lambda: self._paired([as_tuple(row) for row in left.rows], [as_tuple(row) for row in right.rows])

    def _sets(self, gold: Answer, answer: Answer) -> bool:
        if not any(item[0] in _SETLIKE for item in (*gold.items, *answer.items)):
            return False
        try:
            left, right = self._reader.answer(gold), self._reader.answer(answer)
        except NoSet:
            return False
        if (left.plain and right.plain) or (left.name and right.name and left.name != right.name):
            return False
        if len(left.pieces) != len(right.pieces):
            return False
        return every(*(lambda p=p, q=q: self._pieces(p, q) for p, q in zip(left.pieces, right.pieces, strict=True)))

    def _pieces(self, gold: Piece, answer: Piece) -> bool:
        if gold[1] != answer[1] or gold[3] != answer[3]:
            return False
        return all(a[0] == b[0] or self._ends(a, b) for a, b in ((gold[0], answer[0]), (gold[2], answer[2])))

    def _ends(self, gold: tuple[object, Node], answer: tuple[object, Node]) -> bool:
        infinite = any(isinstance(position, float) for position in (gold[0], answer[0]))
        return not infinite and self.oracle.values(gold[1], answer[1])

    def matched_sets(self, golds: list[Node], answers: list[Node]) -> bool:
        """Each in the other, however often."""
        return every(
            lambda: all(self._among(item, answers) for item in golds),
            lambda: all(self._among(item, golds, flip=True) for item in answers),
        )


def _shifted(answer: Answer, domains: list[str]) -> Iterator[Answer]:
    """The same family with k, -k, k + 1 and so on for its integer k."""
    yield answer
    if domains != ["Z"]:
        return
    k = ("sym", PARAMETER + "0")
    for turned in (k, ("neg", k)):
        for step in (0, 1, -1):
            other = ("add", turned, ("num", Fraction(step), None))
            yield Answer(tuple(replaced(item, k, other) for item in answer.items), answer.joins)


def _conflict(gold: Answer, answer: Answer) -> bool:
    """Whether one side says "and" where the other says "or", of what is no list of values."""
    words = [set(side.joins[1:]) - {","} for side in (gold, answer)]
    if not words[0] or not words[1] or words[0] == words[1]:
        return False
    return any(item[0] == "sym" or (item[0] == "rel" and item[2] != ("=",)) for item in gold.items)
