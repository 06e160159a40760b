r"""A whole answer: its items, and the label of a choice.

read(r"x=1 \text{ or } x\ge 2")   two items, joined by "or"
read("(D) 24")                     the choice D, which says 24
"""

from dataclasses import dataclass
from functools import lru_cache

from openrlhf_prefix.reward.grammar.cursor import Node
from openrlhf_prefix.reward.grammar.structure import Structure
from openrlhf_prefix.reward.grammar.tokens import Token, Unreadable, cut
from openrlhf_prefix.reward.grammar.words import UNITS

_AFTER_NO_LABEL = "is are isn't or and if unless except not wrong ne le ge to < > approx"
_NO_CHOICE = frozenset(_AFTER_NO_LABEL.split())


@dataclass(frozen=True)
class Answer:
    """Items, and what joined each to the one before ("," for the first).

    choice: the label of "(D) 24" or "D", and the answer that follows it, None where nothing follows.
    """

    items: tuple[Node, ...]
    joins: tuple[str, ...]
    choice: tuple[str, "Answer | None"] | None = None


@lru_cache(maxsize=4096)
def read(text: str, bare_units: bool = False) -> Answer:
    """The answer that all of `text` is. With `bare_units` letters after the last number are units: 4 m, 5 m/s.

    Raises Unreadable.
    """
    tokens = cut(text)
    return _read_tokens(_with_units(tokens) if bare_units else tokens)


def _read_tokens(tokens: tuple[Token, ...]) -> Answer:
    choice = _choice(tokens)
    if choice and choice[1] is None:
        return Answer((("sym", choice[0]),), (",",), choice)
    reader = Structure(tokens)
    try:
        items, joins = reader.items()
        if reader.peek().kind != "end":
            raise Unreadable(f"{reader.peek().text!r} is left over")
    except Unreadable:
        if choice is None:
            raise
        items, joins = (), ()
    if not items and choice is None:
        raise Unreadable("nothing there")
    return Answer(items, joins, choice)


def _choice(tokens: tuple[Token, ...]) -> tuple[str, Answer | None] | None:
    """D, (D), D), "D. 24", "D: 24", "(D) 24"."""
    kinds = [token.text if token.kind == "mark" else token.kind for token in tokens[:3]]
    if kinds[:3] == ["(", "let", ")"]:
        letter, rest, marked = tokens[1], tokens[3:], True
    elif kinds[:1] == ["let"] and (kinds[1:2] in ([")"], ["."], [":"])):
        letter, rest, marked = tokens[0], tokens[2:], True
    elif kinds == ["let"]:
        letter, rest, marked = tokens[0], (), False
    else:
        return None
    if letter.text.upper() not in "ABCDEFGHIJ" or (not marked and not letter.text.isupper()):
        return None
    if not rest:
        return letter.text.upper(), None
    if rest[0].kind == "sep" or rest[0].text in _NO_CHOICE:
        return None
    if any(token.kind == "sep" and _is_label(rest[at + 1 : at + 3]) for at, token in enumerate(rest)):
        return None  # (A) or (B) is no choice
    ratio = kinds[1:2] == [":"] and (rest[0].kind == "let" or any(token.text in "=:" for token in rest))
    if ratio or any(token.kind == "mark" and token.text in "=" for token in rest[:1]) or not letter.text.isupper():
        return None
    try:
        return letter.text, _read_tokens(rest)
    except Unreadable:
        return None


def _is_label(tokens: tuple[Token, ...]) -> bool:
    """Whether the next item begins like the label of a choice."""
    letter = next((token for token in tokens if token.text != "("), None)
    return letter is not None and letter.kind == "let" and letter.text in "ABCDEFGHIJ"


def _with_units(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    last = max((at for at, token in enumerate(tokens) if token.kind == "num" and _is_value(tokens, at)), default=None)
    if last is None:
        return tokens
    tail = tokens[last + 1 :]
    if not all(
        token.kind == "word" or token.text in UNITS or token.text in ("/", "*", "Omega")
        for token in _without_powers(tail)
    ):
        return tokens
    return tokens[: last + 1] + tuple(
        Token("word", t.text) if t.kind == "let" else Token("word", "Ω") if t.text == "Omega" else t for t in tail
    )


def _is_value(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether the number at `at` is no exponent."""
    before = [token.text for token in tokens[max(at - 3, 0) : at] if token.text not in "{-"]
    return before[-1:] != ["^"]


def _without_powers(tail: tuple[Token, ...]) -> list[Token]:
    """m ^ 2 and m ^ { - 2 } as m."""
    found, at = [], 0
    while at < len(tail):
        if tail[at].text != "^":
            found.append(tail[at])
        else:
            at += 1
            while at < len(tail) and tail[at].text in ("{", "-") or at + 1 < len(tail) and tail[at + 1].text == "}":
                at += 1
        at += 1
    return found
