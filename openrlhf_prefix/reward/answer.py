r"""The final answer of a response: what stands in its last box.

"... so 3/6 = \boxed{\frac{1}{2}}." gives "\frac{1}{2}". A reasoning model may box guesses while it thinks, so only the
text after the last </think> counts. A last box that never closes was cut off: there is no answer then, and an earlier
box is not taken for it.
"""

import re

_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character is consumed whole: \{ is no brace

MAX_CHARACTERS = 1000
MAX_DEPTH = 50
_LONG_NUMBER = re.compile(r"\d{301}")


def extract_boxed(text: str) -> str | None:
    r"""Content of the last \boxed{...} or \fbox{...}; None without one, or when it never closes. Linear time."""
    text = text.rpartition("</think>")[2]
    start = None
    for box in _OPEN_BOX.finditer(text):
        start = box.end()
    if start is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : brace.start()]
    return None


def too_complex(answer: str) -> bool:
    """Whether an answer is past any honest use: too long, too deep, or holding a number of more than 300 digits.

    A parser spends seconds on such a text only to fail, so it never reaches one.
    """
    if len(answer) > MAX_CHARACTERS or _LONG_NUMBER.search(answer):
        return True
    depth = deepest = 0
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH
