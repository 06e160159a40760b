r"""The final answer of a response: what stands in its last box, or what a configured fallback finds without one.

"... so 3/6 = \boxed{\frac{1}{2}}." gives "\frac{1}{2}". A reasoning model may box guesses while it thinks, so only the
text after the last </think> counts. A last box that never closes was cut off: there is no answer then, and neither an
earlier box nor a fallback is taken for it.
"""

import re
from collections.abc import Callable

from openrlhf_prefix.reward.boxes import OPEN_BOX, boxed_answer

MAX_CHARACTERS = 1000
MAX_DEPTH = 50
MAX_ITEMS = 200
MAX_EXPONENT = 10**6
_LONG_NUMBER = re.compile(r"\d{301}")
_ITEM = re.compile(r",|;|&|\\\\")
_HUGE = re.compile(  # n! from n = 10^5, \binom{n}{k} from n = 10^6 and k = 10^4
    r"\d{6,}\s*\}?\s*!|\\[dt]?binom\s*\{\s*\d{7,}\s*\}\s*\{\s*\d{5,}\s*\}"
)
_TOWER = re.compile(r"\d+(?:\s*\^\s*\{*\s*\d+)+")

# a fraction, or 1,234.5 with its sign; the sign of "10-3" is a minus
_NUMBER = re.compile(
    r"(?:(?<![\w)}\]])-\s?)?(?:\\[dt]?frac\{-?\d{1,50}\}\{\d{1,50}\}|\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?:\s?\\?%)?"
)
_LABEL = re.compile(r"(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[:=]?\s*", re.IGNORECASE)
_TAIL = 10_000  # characters: nobody's final answer is further from the end


def extract_boxed(text: str) -> str | None:
    r"""Content of the last \boxed{...} or \fbox{...} after the thinking, and of those listed with it (boxes.py)."""
    return boxed_answer(text.rpartition("</think>")[2])


def extract_answer(text: str, fallback: str = "none") -> str | None:
    """The last box, or where no box was ever opened after the thinking, what `fallback` (a key of FALLBACKS) finds.

    Thinking that never ends leaves a fallback nothing to read, though it leaves a box: a <think> without </think>.
    """
    boxed = extract_boxed(text)
    after = text.rpartition("</think>")[2]
    if boxed is not None or OPEN_BOX.search(after) or "<think>" in after:
        return boxed
    return FALLBACKS[fallback](after[-_TAIL:])


def _last_number(text: str) -> str | None:
    found = None
    for number in _NUMBER.finditer(text):
        found = number.group()
    return None if found is None else found.rstrip(",")


def _last_line(text: str) -> str | None:
    lines = [line.strip(" \t*`") for line in text.splitlines()]
    last = next((line for line in reversed(lines) if line), None)
    return None if last is None else _LABEL.sub("", last, count=1) if _LABEL.match(last) else last


FALLBACKS: dict[str, Callable[[str], str | None]] = {
    "none": lambda text: None,
    "last_number": _last_number,  # "... which makes 42 apples." -> "42"
    "last_line": _last_line,  # "...\n**Answer: x = 3**" -> "x = 3"
}


def too_complex(answer: str) -> bool:
    """Whether an answer is past any honest use, which a parser would spend seconds on only to fail.

    Too long, too deep, a number of more than 300 digits, more than 200 items in its lists, or a literal power,
    factorial or binomial whose value nobody could write down (2^{10} may pass, 9^{9^{9}} may not).
    """
    if len(answer) > MAX_CHARACTERS or _LONG_NUMBER.search(answer):
        return True
    if sum(1 for _ in _ITEM.finditer(answer)) >= MAX_ITEMS or _HUGE.search(answer):
        return True
    if any(_is_huge_tower(tower.group()) for tower in _TOWER.finditer(answer)):
        return True
    depth = deepest = 0
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def _is_huge_tower(tower: str) -> bool:
    """Whether an exponent in a^{b^{c...}} passes 10^6, worked out from the top: 2^{2^{4}} has the exponent 16."""
    numbers = [int(number) for number in re.findall(r"\d+", tower)]
    exponent = numbers.pop()
    while numbers:
        base = numbers.pop()
        if base < 2:
            exponent = base if exponent else 1
        elif exponent > MAX_EXPONENT:
            return True
        else:  # past 10^6 it only matters that it is: 2^{20} > 10^6 already
            exponent = MAX_EXPONENT + 1 if exponent > 20 else base**exponent
    return False
