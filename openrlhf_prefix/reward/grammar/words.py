"""Words: which runs of letters are words, which say nothing, and when two phrases say the same.

norm(["is", "even"]) == ["even"]          countable(["apples"]) is True         countable(["left"]) is False
"""

from fractions import Fraction
from typing import Any

from openrlhf_prefix.reward.grammar.units import NAMES as _UNIT_NAMES

ALPHABET = "abcdefghijklmnopqrstuvwxyz"  # "abcd" is a product of four letters, not a word
CONNECTORS = {"and": "and", "or": "or", "和": "and", "或": "or", "且": "and", "与": "and", "以及": "and", "或者": "or"}
CURRENCY = {"$": "dollar", "€": "euro", "£": "pound sterling", "¥": "yuan", "￥": "yuan", "₹": "rupee"}
UNITS = frozenset(_UNIT_NAMES)
FUNCTIONS = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "log", "ln", "lg")},
    **{name: name for name in ("exp", "gcd", "lcm", "max", "min", "det", "sqrt", "asin", "acos", "atan", "mod", "pi")},
    **{"arcsin": "asin", "arccos": "acos", "arctan": "atan", "sgn": "sgn", "inf": "infty", "infinity": "infty"},
    **{"floor": "floor", "ceil": "ceil", "abs": "abs", "bmod": "mod", "cis": "cis", "re": "Re", "im": "Im"},
}
_GREEK = "alpha beta gamma delta epsilon theta lambda mu sigma tau phi omega rho"
_SHORT = """
is no of if to yes not all odd any its the for but are was dne max am pm one two six ten day way men top low red big
new old mod even true false none both left right
"""
GREEK, SHORT_WORDS = frozenset(_GREEK.split()), frozenset(_SHORT.split())
BASE_NAMES = {
    **{"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10},
    **{"eleven": 11, "twelve": 12, "sixteen": 16},
}
_SILENT = frozenset(("the", "a", "an", "is", "are", "be", "was", "were", "that", "it", "there"))
_SAME = {
    **{"isn't": "not", "aren't": "not", "cannot": "not", "doesn't": "not", "nonexistent": "not", "divide": "divides"},
    **{"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "inches": "inch"},
}
# After a number these change what it says; any other noun only names what was counted.
_QUALIFYING = """
left right up down north south east west northeast northwest southeast southwest forward backward backwards clockwise
counterclockwise anticlockwise inside outside am pm noon midnight early late earlier later before after ago above
below over under minimum maximum min max more less fewer most least greater smaller larger bigger higher lower older
younger taller shorter faster slower fast slow deep high increase decrease increasing decreasing gain loss profit
deficit surplus debt win lose odd even prime composite positive negative rational irrational real complex imaginary
finite infinite true false yes no not never only always approximately about around exactly nearly almost modulo mod
remainder root per plus minus if when where unless except without divides divisible squared cubed half double twice
third quarter dozen hundred thousand million billion trillion
wrong incorrect invalid maybe perhaps unknown impossible undefined guess hot cold short tall long wide late
以上 以下 以内 以外 左右 上午 下午 左 右 东 西 南 北 奇数 偶数 质数 合数 正 负
大于 小于 至少 至多 万 亿 千 百 半 倍多 多
"""
_QUALIFIERS = frozenset(_QUALIFYING.split())
QUANTIFIERS = (
    *(("for", word) for word in ("all", "any", "every", "each")),
    ("where",),
    ("对所有",),
)


_VERBS = frozenset(("is", "are", "be", "was", "were", "that", "it", "there"))
_COUNTED = frozenset(
    ("fish", "sheep", "deer", "mice", "teeth", "geese", "dice", "old", "money", "water", "milk", "person")
)
_SPELT: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("real", "real number", "实数", "全体实数", "一切实数"), ("name", "R")),
    **dict.fromkeys(("integer", "整数", "全体整数"), ("name", "Z")),
    **dict.fromkeys(("empty", "null", "空集"), ("empty",)),
    **{name: ("num", Fraction(number), None) for name, number in BASE_NAMES.items()},
    **{name: ("num", Fraction(number), None) for name, number in (("zero", 0), ("one", 1))},
}
MULTIPLES = {
    **{"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12},
    **{"万": 10**4, "亿": 10**8, "千": 10**3, "百": 10**2},
}


def norm(words: list[str]) -> list[str]:
    """Words that say something, each in one form: no article, no "is", no plural."""
    return [_one(word) for word in words if word not in _SILENT]


def _one(word: str) -> str:
    if word in _SAME:
        return _SAME[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    plural = word.isascii() and len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def countable(words: list[str], one: bool = False) -> bool:
    """Whether words after a number only name what it counts, so that they may be left out: 8 apples is 8.

    There is a plural among them, or with `one` any noun: 5 wrong is no count. Nor is a sentence: 5 is the rest.
    """
    said = norm(words)
    if any(word.endswith("ly") and word not in ("family", "fly", "jelly", "lily") for word in words):
        return False
    if not 0 < len(said) <= 4 or _VERBS & set(words):
        return False
    if any(word in _QUALIFIERS or word.rstrip("s") in _QUALIFIERS for word in (*words, *said)):
        return False
    return one or any(not word.isascii() or word in _COUNTED or _one(word) != word for word in words)


def spelt(words: list[str]) -> tuple[Any, ...] | None:
    """What words alone stand for: a set of numbers, or a number up to twelve."""
    said = [word for word in norm(words) if word not in ("all", "any", "set", "of")]
    return _SPELT.get(" ".join(said))
