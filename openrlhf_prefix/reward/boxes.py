r"""The last box of a text, and the boxes that stand with it in one list.

    "so \boxed{\frac{1}{2}}."                          gives  "\frac{1}{2}"
    "\boxed{(2,2)} \quad \text{and} \boxed{(6,2)}"     gives  "(2,2), (6,2)"

Boxes joined by nothing but marks, bullets, spacing and words such as "and", "or", "maybe" are one answer, so boxing
two guesses pays nothing; a box said twice is said once. The last box must close: else the text was cut off, and no
earlier box is taken for it.
"""

import re

OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_PIECE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)  # an escaped brace is consumed whole: it is none
_JOINT = re.compile(
    r"(?:\s|[,;.:/$&|*•，、；。-]|\\[()\[\],;:!\\]|\\(?:quad|qquad|cdot|bullet)(?![a-z])|\d{1,2}[.)](?=\s)"
    r"|\\(?:text|mbox|textrm)\s*\{|\}|(?<![A-Za-z])(?:and|or|also|maybe|perhaps|possibly|else|then|either|both|plus)(?![A-Za-z])"
    r"|和|或者?|与|以及|以?及)*"
)
_LONGEST_JOINT = 80  # characters


def boxed_answer(text: str) -> str | None:
    """Contents of the last box and of those listed with it; None without one, or when it never closes. Linear time."""
    boxes, last = _closed(text)
    if not boxes or boxes[-1][0] != last:
        return None
    boxes.sort(key=lambda box: box[2])
    start, begin, end = next(box for box in reversed(boxes) if box[0] == last)
    found = [text[begin:end]]
    for outer, begin, end in reversed(boxes):
        if end >= start:
            continue
        if not _joins(text[end + 1 : start]):
            break
        found.append(text[begin:end])
        start = outer
    return ", ".join(dict.fromkeys(reversed(found))) if len(found) > 1 else found[0]


def _closed(text: str) -> tuple[list[tuple[int, int, int]], int]:
    """(start, begin of the content, its end) of each box that closes, by start; and where the last one opens."""
    stack: list[tuple[int, int] | None] = []
    closed, last = [], -1
    for piece in _PIECE.finditer(text):
        mark = piece.group()
        if mark == "{":
            stack.append(None)
        elif mark == "}":
            box = stack.pop() if stack else None
            if box is not None:
                closed.append((*box, piece.start()))
        elif mark[-1] == "{" and len(mark) > 2:
            stack.append((piece.start(), piece.end()))
            last = piece.start()
    closed.sort()
    return closed, last


def _joins(between: str) -> bool:
    return len(between) <= _LONGEST_JOINT and _JOINT.fullmatch(between) is not None
