r"""An answer cut into tokens: numbers, letters, commands, words, marks.

    cut(r"5\text{ cm}")  ->  num 5, word cm           cut("2xy")      ->  num 2, let x, let y
    cut("n is even")     ->  let n, word is, word even

A run of letters is a word where it can be one: inside \text{}, from four letters on, or from a list; else each letter
is a variable. "and", "or", "," and ";" separate.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from openrlhf_prefix.reward.grammar.notation import canonical
from openrlhf_prefix.reward.grammar.words import (
    ALPHABET,
    BASE_NAMES,
    CONNECTORS,
    CURRENCY,
    FUNCTIONS,
    GREEK,
    MULTIPLES,
    SHORT_WORDS,
    UNITS,
)


class Unreadable(ValueError):
    """The text is no answer that this grammar knows."""


@dataclass(frozen=True, slots=True)
class Token:
    """kind: num, let, cmd, word, mark, sep or end. `upright` letters may be units; `spaced` ones follow a blank."""

    kind: str
    text: str
    value: Fraction | None = None
    places: int | None = None  # of a decimal: digits after the point, less the exponent of ten
    upright: bool = False
    spaced: bool = False


END = Token("end", "")

_PART = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.A-Za-z^_!]))?)"
    r"|(?P<env>\\(?:begin|end)\s*\{[A-Za-z]+\*?\})"
    r"|(?P<font>\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal)|operatorname|mbox|hbox|emph|"
    r"underline|boxed|fbox)(?![A-Za-z])\*?\s*(?=\{|[A-Za-z0-9]))"
    r"|(?P<cmd>\\(?:[A-Za-z]+|.))"
    r"|(?P<letters>[A-Za-z]+)"
    r"|(?P<han>[\u4e00-\u9fff]+)"
    r"|(?P<circled>[\u2460-\u2473])"
    r"|(?P<money>[€£¥₹￥])"
    r"|(?P<mark>[-+*/^_=<>!'(){}\[\]|:%&?.])"
    r"|(?P<sep>[,;])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z]\.(?:[A-Za-z]\.?)+|[A-Za-z]+(?:'[a-z]+)?")
_GROUPED = re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})+(?![\d])|(?<![\d.])[1-9]\d{0,2}(?: \d{3})+(?!\d|\s*/)")
_DECIMAL_COMMA = re.compile(r"-?0,\d{2,}|-?0,[1-9]")
_CYCLE = re.compile(r"(?<=\d)\.(\d*)\\(?:overline|dot)\s*\{(\d+)\}")
_OPENERS, _CLOSERS = "([", ")]"


@lru_cache(maxsize=8192)
def cut(text: str) -> tuple[Token, ...]:
    """Tokens of an answer in any spelling. Raises Unreadable."""
    text = canonical(text)
    if _DECIMAL_COMMA.fullmatch(text):  # 0,75 is no list: nobody lists 0 and 75 without a blank
        text = text.replace(",", ".")
    out: list[Token] = []
    _cut(_ungrouped(text), out, text_mode=False)
    return tuple(out)


def _ungrouped(text: str) -> str:
    """1,234,567 and 10 000 as one number, unless the comma stands in a bracket, where it separates."""
    depths, depth = [], 0
    for character in text:
        depth += (character in _OPENERS) - (character in _CLOSERS)
        depths.append(depth)

    def join(match: re.Match[str]) -> str:
        inside = depths[match.start()] > 0 or text[: match.start()].endswith(r"\{")
        spaced = ", " in text[match.end() : match.end() + 2] or text[: match.start()].rstrip(" ").endswith(",")
        if "," in match.group() and (inside and not spaced or _in_set(text, match.start()) and not spaced):
            return match.group()
        return match.group().replace(",", "").replace(" ", "")

    return _GROUPED.sub(join, text)


def _in_set(text: str, at: int) -> bool:
    return text.count(r"\{", 0, at) > text.count(r"\}", 0, at)


def _cut(text: str, out: list[Token], text_mode: bool, math_font: bool = False) -> None:
    text = _CYCLE.sub(lambda m: f".{m[1]}\\cycle{{{m[2]}}}" if m[1] else f"\\cycle{{{m[2]}}}", text)
    at, spaced = 0, False
    while at < len(text):
        word = _WORD.match(text, at) if text_mode else None
        if word:
            _add_word(word.group(), out, spaced, math_font)
            at, spaced = word.end(), False
            continue
        part = _PART.match(text, at)
        assert part is not None  # `other` takes anything
        kind, at = part.lastgroup, part.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "font":
            at = _cut_font(part.group(), text, at, out)
        else:
            _add(str(kind), part.group(), out, spaced)
        spaced = False


def _cut_font(command: str, text: str, at: int, out: list[Token]) -> int:
    """The content of \\text{...} and its like; returns where it ends."""
    name = command.strip("\\* \n")
    if text[at] == "{":
        end = matching_brace(text, at)
        content = text[at + 1 : end]
    else:  # \mathbb R
        end, content = at, text[at]
    if name == "mathbb":
        out.append(Token("cmd", "mathbb" + content.strip()))
    elif name in ("boxed", "fbox", "underline", "emph"):
        _cut(content, out, text_mode=False)
    else:
        _cut(content, out, text_mode=True, math_font=name.startswith(("math", "operator")))
    return end + 1


def matching_brace(text: str, at: int) -> int:
    """Index of the brace that closes the one at `at`. Raises Unreadable."""
    depth = 0
    for index in range(at, len(text)):
        if text[index] in "{}" and text[index - 1 : index] != "\\":
            depth += 1 if text[index] == "{" else -1
            if depth == 0:
                return index
    raise Unreadable("a brace never closes")


def _add_multiple(text: str, out: list[Token]) -> bool:
    """3 million: the number before a word is multiplied by it."""
    last = out[-1] if out else END
    if text not in MULTIPLES or last.value is None:
        return False
    out[-1] = Token("num", f"{last.text} {text}", last.value * MULTIPLES[text], spaced=last.spaced)
    return True


def _add(kind: str, text: str, out: list[Token], spaced: bool) -> None:
    if kind == "num":
        out.append(_number(text, spaced))
    elif kind == "letters":
        _add_letters(text, out, spaced)
    elif kind == "env":
        verb, name = text.strip("\\}").split("{")
        out.append(Token("cmd", f"{verb.strip()} {name.strip('*')}"))
    elif kind == "cmd":
        _add_command(text[1:], out, spaced)
    elif kind == "han" and _add_multiple(text, out):
        pass
    elif kind == "han":
        out.append(Token("sep" if text in CONNECTORS else "word", CONNECTORS.get(text, text)))
    elif kind == "circled":
        if out and out[-1].kind == "word" and "\u2460" <= out[-1].text <= "\u2473":
            out.append(Token("sep", ","))
        out.append(Token("word", text))
    elif kind == "money":
        out.append(Token("word", CURRENCY[text]))
    elif kind in ("mark", "sep"):
        out.append(Token(kind, text, spaced=spaced))
    else:
        raise Unreadable(f"{text!r} means nothing here")


def _number(text: str, spaced: bool) -> Token:
    mantissa, _, exponent = text.lower().partition("e")
    whole, point, part = mantissa.partition(".")
    power = int(exponent or 0)
    value = Fraction(int(whole + part or "0"), 10 ** len(part)) * Fraction(10) ** power
    return Token("num", text, value, len(part) - power if point else None, spaced=spaced)


def _add_command(name: str, out: list[Token], spaced: bool) -> None:
    if name in ("{", "}"):
        out.append(Token("mark", "\\" + name))
    elif name in ("$", "€"):
        out.append(Token("word", CURRENCY[name]))
    elif name in ("and", "or", "&"):
        out.append(Token("sep", "and" if name == "&" else name))
    elif name == "%":
        out.append(Token("mark", "%"))
    elif name in _MARKS:
        out.append(Token("mark", _MARKS[name], spaced=spaced))
    else:
        out.append(Token("cmd", name, spaced=spaced))


_MARKS = {"lt": "<", "gt": ">", "slash": "/", "cdot": "*", "vert": "|", "colon": ":", "langle": "(", "rangle": ")"}


_PERCENT = frozenset(("percent", "pct", "percentage"))


def _add_word(text: str, out: list[Token], spaced: bool, math_font: bool) -> None:
    """A run of letters inside \\text{} or \\mathrm{}."""
    bare = text.replace(".", "").replace("'", "")
    low = bare.lower()
    after_number = bool(out) and (
        out[-1].kind == "num" or out[-1].text in ("}", ")", "infty", "pi", "/") or out[-1].text in UNITS
    )
    if low in CONNECTORS:
        out.append(Token("sep", CONNECTORS[low]))
    elif low in _PERCENT or (low == "cent" and out and out[-1].text == "per"):
        _add_percent(out)
    elif _add_multiple(low, out):
        pass
    elif len(bare) == 1:
        out.append(Token("word" if after_number and bare in UNITS else "let", bare, upright=True, spaced=spaced))
    elif low in FUNCTIONS and (math_font or low in ("mod", "pi", "infinity")) and not (after_number and low in UNITS):
        out.append(Token("cmd", FUNCTIONS[low]))
    elif bare.isupper() and len(bare) <= 3 and low not in UNITS and low not in SHORT_WORDS:
        out.extend(Token("let", letter, upright=True) for letter in bare)
    else:
        out.append(Token("word", bare if bare in UNITS else low))


def _add_letters(run: str, out: list[Token], spaced: bool) -> None:
    """A bare run: a function, a word, or a product of variables."""
    low = run.lower()
    last = out[-1] if out else END
    after_value = last.kind == "num" or last.text in ("}", ")", "/", "per") or last.text in UNITS
    if low in CONNECTORS:
        out.append(Token("sep", CONNECTORS[low]))
    elif low in _PERCENT or (low == "cent" and last.text == "per"):
        _add_percent(out)
    elif _add_multiple(low, out):
        pass
    elif len(run) == 1:
        out.append(Token("let", run, spaced=spaced))
    elif after_value and (run in UNITS or low in UNITS) and low not in ("in", "pi", "min", "sec"):
        out.append(Token("word", run if run in UNITS else low))
    elif run in FUNCTIONS:
        out.append(Token("cmd", FUNCTIONS[run]))
    elif run in GREEK:
        out.append(Token("cmd", run))
    elif low in SHORT_WORDS or (len(run) > 3 and low not in ALPHABET) or (after_value and spaced and _sounds(low)):
        out.append(Token("word", low))
    else:
        out.extend(Token("let", letter, spaced=spaced and index == 0) for index, letter in enumerate(run))


def _sounds(run: str) -> bool:
    """cow, pen, box: consonant, vowel, consonant after a number and a blank is a thing that is counted."""
    vowels = [letter in "aeiou" for letter in run]
    return vowels == [False, True, False] or (len(run) == 2 and run in UNITS)


def _add_percent(out: list[Token]) -> None:
    if out and out[-1].text == "per":
        out.pop()
    out.append(Token("mark", "%"))


def base_number(token: Token) -> int | None:
    """The base that a subscript names: 8, eight."""
    if token.kind == "num" and token.value is not None and token.value.denominator == 1:
        return int(token.value)
    return BASE_NAMES.get(token.text)
