r"""The verdict on one pair of texts: read both, compare, and where a letter may be a unit, read it so as well.

decide("4 m", "400 cm", oracle) is True         decide("4 m", "4 cm", oracle) is False
"""

import re
from fractions import Fraction

from openrlhf_prefix.reward.equality.compare import Judge
from openrlhf_prefix.reward.equality.oracle import Oracle, either
from openrlhf_prefix.reward.grammar import trees
from openrlhf_prefix.reward.grammar.answers import Answer, read
from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.tokens import Token, Unreadable, cut

_NUMBER = re.compile(
    r"(?P<minus>-?)(?:(?P<whole>[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.(?P<part>[0-9]+))?"
    r"|\\[dtc]?frac\{(?P<above>[0-9]+)\}\{(?P<below>[0-9]+)\}|(?P<over>[0-9]+)/(?P<under>[0-9]+))(?P<percent>\\?%)?"
)


def decide(gold: str, answer: str, oracle: Oracle) -> bool:
    """Whether two answers are equal.

    Raises:
        Unreadable: the grammar knows neither all of the gold nor a token-for-token equal answer.
        Undecided: the oracle cannot tell.
    """
    try:
        return _decide(gold, answer, oracle)
    except RecursionError:  # within 1000 characters only signs and powers of powers go that deep
        raise Unreadable("too deep") from None


def _decide(gold: str, answer: str, oracle: Oracle) -> bool:
    plain_gold, plain_answer = number(gold), number(answer)
    if plain_gold and plain_answer:
        return oracle.values(plain_gold, plain_answer)
    cuts = cut(gold), cut(answer)
    if _plain(cuts[0]) == _plain(cuts[1]):
        return True
    judge = Judge(oracle)
    left, right = read(gold), read(answer)
    worded = _worded(left), _worded(right)
    if worded[0] == worded[1]:
        return judge.answers(left, right)
    # only one side has words: a bare letter of the other may be a unit
    other = (gold, right) if worded[1] else (answer, left)
    again = _read_with_units(other[0])
    if again is None:
        return judge.answers(left, right)
    second = (again, right) if worded[1] else (left, again)
    return either(lambda: judge.answers(left, right), lambda: judge.answers(*second))


def number(text: str) -> Node | None:
    """What the grammar makes of 42, -0.5, 1,234, 3/4, \\frac{3}{4} and each with a percent sign, without the grammar.

    Most answers are plain numbers: this is a tenth of the cost.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, part = match["whole"], match["part"] or ""
    if whole:
        value = Fraction(int(whole.replace(",", "") + part), 10 ** len(part))
        node: Node = ("num", value, len(part) if part else None)
    else:
        above, below = match["above"] or match["over"], match["below"] or match["under"]
        node = ("div", ("num", Fraction(int(above)), None), ("num", Fraction(int(below)), None))
    node = ("pct", node) if match["percent"] else node
    return ("neg", node) if match["minus"] else node


def _plain(tokens: tuple[Token, ...]) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens]


def _worded(answer: Answer) -> bool:
    return any(trees.has(item, "phrase") for item in answer.items)


def _read_with_units(text: str) -> Answer | None:
    try:
        return read(text, bare_units=True)
    except Unreadable:
        return None


def has_words(text: str) -> bool:
    """Whether a text that the grammar cannot read has words or numerals with a base, which math-verify would drop."""
    try:
        tokens = cut(text)
    except Unreadable:
        return "\\text" in text or "\\mathrm" in text or "\\mbox" in text or any(map(_is_foreign, text))
    based = any(a.kind == "num" and b.text == "_" for a, b in zip(tokens, tokens[1:], strict=False))
    return based or any(token.kind == "word" for token in tokens)


def _is_foreign(character: str) -> bool:
    return ord(character) > 127
