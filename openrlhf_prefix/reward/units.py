r"""Units at the end of an answer, where both the gold and the answer have one; math-verify drops them unread.

    align(r"3\text{ hours}", r"180\text{ minutes}") == (r"(3)\cdot\frac{3600}{1}", r"(180)\cdot\frac{60}{1}")

One unit missing: the question named it, so the numbers alone count. Two known units of one dimension are converted,
of two dimensions they differ. A unit that is not in the table (apples) says nothing.
"""

import re
from fractions import Fraction

_TABLE = {
    "length": {"mm": "1/1000", "cm": "1/100", "m": "1", "km": "1000", "in": "127/5000", "ft": "381/1250"},
    "time": {"s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"},
    "mass": {"mg": "1/1000000", "g": "1/1000", "kg": "1"},
    "speed": {"m/s": "1", "km/h": "5/18", "mph": "1397/3125"},
    "money": {"cent": "1/100", "dollar": "1"},
    "angle": {"degree": "1"},
}
_FACTORS = {name: (kind, Fraction(size)) for kind, units in _TABLE.items() for name, size in units.items()}
_SYNONYMS = {
    **{"millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km", "inch": "in", "inche": "in"},
    **{"foot": "ft", "feet": "ft", "sec": "s", "second": "s", "minute": "min", "hr": "h", "hour": "h"},
    **{"gram": "g", "kilogram": "kg", "milligram": "mg", "kph": "km/h", "km/hr": "km/h"},
    **{"miles per hour": "mph", "mile per hour": "mph", "kilometers per hour": "km/h", "meters per second": "m/s"},
}
_SPACE = r"(?:\s|~|\\[,;:! ])*"
_UNIT = re.compile(
    rf"(?P<value>.+?){_SPACE}(?:\\(?:text|mathrm|textrm|mbox)\s*\{{{_SPACE}(?P<name>[A-Za-z][A-Za-z/ ]*?)\.?\s*\}}"
    r"|(?P<degree>\^\s*\{?\s*\\circ\s*\}?|°))\s*(?:\^\s*\{?\s*(?P<power>[23])\s*\}?)?",
    re.DOTALL,
)
_DOLLAR = re.compile(r"\\\$\s*(?P<value>.+)", re.DOTALL)


def align(gold: str, answer: str) -> tuple[str, str] | None:
    """Gold and answer in one unit, without it where that makes a difference; None when their dimensions differ."""
    (gold_value, gold_unit), (answer_value, answer_unit) = split(gold), split(answer)
    if gold_unit is None or answer_unit is None:
        return gold_value, answer_value
    if gold_unit[0] != answer_unit[0]:
        return None
    if gold_unit[1] == answer_unit[1]:
        return gold_value, answer_value
    return _times(gold_value, gold_unit[1]), _times(answer_value, answer_unit[1])


def split(latex: str) -> tuple[str, tuple[str, Fraction] | None]:
    r"""Value and unit: split(r"5\text{ cm}^2") == ("5", ("length^2", Fraction(1, 10000))).

    The unit is None when there is none; an unknown one is left in the value, for math-verify knows more of them.
    """
    if dollar := _DOLLAR.fullmatch(latex):
        return dollar["value"], ("money^1", Fraction(1))
    match = _UNIT.fullmatch(latex)
    if not match:
        return latex, None
    name = "degree" if match["degree"] else " ".join(match["name"].lower().split())
    power = int(match["power"] or 1)
    for prefix, exponent in (("square ", 2), ("sq ", 2), ("cubic ", 3)):
        if name.startswith(prefix):
            name, power = name.removeprefix(prefix), exponent
    singular = name if name in _FACTORS else name.removesuffix("s")
    name = _SYNONYMS.get(name) or _SYNONYMS.get(singular) or singular
    if name not in _FACTORS or ("/" in name and power > 1):  # m/s^2 is no square of m/s
        return latex, None
    dimension, factor = _FACTORS[name]
    return match["value"], (f"{dimension}^{power}", factor**power)


def _times(value: str, factor: Fraction) -> str:
    return rf"({value})\cdot\frac{{{factor.numerator}}}{{{factor.denominator}}}"
