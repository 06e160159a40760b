r"""Most answers are plain numbers, letters or words: those are compared exactly here, without a worker.

    compare("0.5", r"\frac12") is True       compare("42", "41") is False       compare("x", "y") is None

None leaves the pair to math-verify. Numbers are Fractions, never floats. A form that can be read in two ways (1,234
against 1.234; 007; 2e3) gets True or False only where both readings agree, else None; so does a decimal within 1e-5 of
the other number (0.333333 for 1/3), which math-verify rounds.

Percent: p% equals p/100, and it equals p as well when |p| >= 1, for the sign may stand in the question: 50% is 0.5 and
50. Below 1 it may not be dropped: 0.5% is 0.005 and not 0.5. (math-verify has this for integers only.)
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_WRAPPER = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*"
_SEPARATOR = re.compile(r",\\!|\{,\}|\\,|,")
_GROUPED = rf"[1-9][0-9]{{0,2}}(?:(?:{_SEPARATOR.pattern})[0-9]{{3}})+"
# "0" or no leading zero: 007 may be a code or a binary numeral
_DECIMAL = re.compile(
    rf"(?P<whole>{_GROUPED}|0|[1-9][0-9]*|(?=\.[0-9\\]))(?:\.(?P<part>[0-9]*)(?:\\overline\{{(?P<cycle>[0-9]+)\}})?)?"
)
_ARGUMENT = r"(?:\{([^{}]+(?:\{,\}[^{}]+)*)\}|([0-9]))"
_FRACTION = re.compile(rf"(?P<mixed>[1-9][0-9]*)?\s*\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
_SLASH = re.compile(r"([^/]+)/([^/]+)")
_SCIENTIFIC = re.compile(r"(.+?)\s*(?:\\times|\\cdot|×|·)\s*10\s*\^\s*(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([0-9]))")
_PERCENT = re.compile(rf"\s*(?:\\?%|{_WRAPPER}\{{\s*per\s?cent\s*\}}|\s+per\s?cent)")
_CLOSE = Fraction(1, 10**5)

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_WORDS = re.compile(r"[A-Za-z]+(?:[ '-][A-Za-z]+)*")
_CHOICE = re.compile(r"\(?\s*([A-Za-z])\s*\)?")
_WRAPPED = re.compile(rf"{_WRAPPER}\{{([^{{}}]*)\}}")


def compare(gold: str, answer: str) -> bool | None:
    r"""Whether two plain answers are equal.

    Returns:
        True or False where that is certain; None where math-verify must decide, above all when either is not plain.
    """
    gold, answer = _strip(gold), _strip(answer)
    numbers = read_number(gold), read_number(answer)
    if numbers[0] and numbers[1]:
        return _compare_numbers(numbers[0], numbers[1])
    return _compare_words(gold, answer)


@dataclass(frozen=True)
class Number:
    """An exact value as written, so 50 for 50%, and what about its form leaves room for doubt."""

    value: Fraction
    percent: bool = False
    grouped: bool = False  # holds a thousands separator, which might be meant as a comma
    decimal: bool = False  # holds a point, so it may have been rounded


def read_number(text: str) -> Number | None:
    r"""The number that is all of `text`; None for anything else, an ambiguous form or a zero denominator included.

    Forms: 3, -0.5, 1,000, 3/4, \frac34, 2\frac13, 1.5\times10^3, 0.\overline{3}, each also with \%.
    """
    percent = _PERCENT.search(text)
    if percent:
        if percent.end() != len(text):
            return None
        text = text[: percent.start()]
    value = _signed(re.sub(r"\\[dtc]frac", r"\\frac", text.strip()))
    if value is None:
        return None
    return Number(value, bool(percent), bool(_SEPARATOR.search(text)), "." in text)


def _compare_numbers(gold: Number, answer: Number) -> bool | None:
    rounded = gold.decimal or answer.decimal
    pairs = [(gold.value, answer.value)]
    if gold.percent != answer.percent:
        part = (gold if gold.percent else answer).value
        other = (answer if gold.percent else gold).value
        pairs = [(part / 100, other)] + [(part, other)] * (abs(part) >= 1)
    if any(a == b for a, b in pairs):
        return True
    if rounded and any(abs(a - b) <= _CLOSE * max(abs(a), abs(b)) for a, b in pairs):
        return None
    if gold.grouped or answer.grouped:  # 1,234 is no 1233, but may be 1.234, or 1 and 234
        plain = answer if gold.grouped else gold
        return False if not plain.grouped and not plain.decimal and plain.value.denominator == 1 else None
    return False


def _compare_words(gold: str, answer: str) -> bool | None:
    wrapped = any(_WRAPPED.fullmatch(side) for side in (gold, answer))
    words = [_words(side) for side in (gold, answer)]
    if not all(words):
        return None
    if words[0] == words[1]:
        # bare "abc" is a product of three letters, in which case and order mean something else
        return True if wrapped or len(words[0]) == 1 or words[0] in _TRUTH else None
    if all(word in _TRUTH for word in words):
        return False if _TRUTH[words[0]] != _TRUTH[words[1]] else None
    if all(len(word) == 1 and word.isupper() for word in words):  # choices, or else two variables
        return False
    return None


def _words(text: str) -> str:
    """Letters and words without wrapper, spare blanks, final point and capital; "" for anything else."""
    match = _WRAPPED.fullmatch(text)
    text = " ".join((match.group(1) if match else text).split()).rstrip(".")
    choice = _CHOICE.fullmatch(text)
    if choice:
        return choice.group(1)
    if not _WORDS.fullmatch(text):
        return ""
    return text.lower() if text.lower() in _TRUTH else text[0].lower() + text[1:]


def _strip(text: str) -> str:
    text = text.replace("\N{MINUS SIGN}", "-").strip().removesuffix(".").strip()
    for left, right in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            return text[len(left) : -len(right)].strip()
    return text


def _signed(text: str) -> Fraction | None:
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    if text[:1] in ("-", "+"):
        text = text[1:].lstrip()
    value = _unsigned(text)
    return None if value is None else sign * value


def _unsigned(text: str) -> Fraction | None:
    if match := _FRACTION.fullmatch(text):
        over = _ratio(match[2] or match[3], match[4] or match[5])
        if not match["mixed"] or over is None:
            return over
        # 2\frac13 is 2 + 1/3; 2\frac{7}{3} can only be a product, and is left alone
        return int(match["mixed"]) + over if 0 < over < 1 else None
    if match := _SCIENTIFIC.fullmatch(text):
        mantissa = _decimal(match[1])
        return None if mantissa is None else mantissa * Fraction(10) ** int(match[2] or match[3])
    if match := _SLASH.fullmatch(text):
        return _ratio(match[1], match[2])
    return _decimal(text)


def _ratio(above: str, below: str) -> Fraction | None:
    """Of two plain decimals, each with a sign or not; None when the lower one is 0 or either is not plain."""
    parts = []
    for part in (above.strip(), below.strip()):
        unsigned = _decimal(part.removeprefix("-").strip())
        if unsigned is None:
            return None
        parts.append(-unsigned if part.startswith("-") else unsigned)
    return parts[0] / parts[1] if parts[1] else None


def _decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if not match:
        return None
    whole, part, cycle = (match[name] or "" for name in ("whole", "part", "cycle"))
    value = Fraction(int(_SEPARATOR.sub("", whole) + part or "0"), 10 ** len(part))
    if cycle:  # 0.1(23) = 0.1 + 23 / (99 * 10)
        value += Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(part))
    return value
