r"""Where a worked text first gives its answer away: no prefix may reach that far.

A prefix that the verifier already finds right earns the reward whatever follows, and teaches nothing. So the cut is
found by the run's own verifier (--verifier.fallback included), which reads growing beginnings of the text:

    verifier     text                                   a prefix may hold
    none         3/6 is 1/2, so \boxed{1/2}.            3/6 is 1/2, so
    last_number  48+24 = 72 clips.\n#### 72             48+24 =
    last_line    48+24 = 72 clips.\nThe answer is 72    48+24 = 72 clips.\nThe answer is

What it reads changes only where a box closes, a number grows or a line grows, and within one text mostly repeats:
each answer is judged once. The last answer of the text ends the search, right or not: a prefix that holds all of a
wrong demonstration leaves nothing to do either. Of boxes, as in text that boxes its answer in the thought and once
more after it, the first one with the content of the last one counts.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import merge
from typing import NamedTuple

from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.reward.answer import FALLBACKS, MAX_CHARACTERS, extract_answer
from openrlhf_prefix.reward.boxes import OPEN_BOX

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_END = "</think>"
_UNREAD = re.compile(rf"{OPEN_BOX.pattern}|<think>")  # from here on a fallback reads nothing, up to the next </think>
# What may hold a number, with the blank that may stand inside it: "- 5", "5 %".
_CHUNK = re.compile(r"(?:-\s)?\S*\d\S*(?:\s\\?%)?")
_LINE = re.compile(r"[^\n]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_OPEN = "-+*/=^_({[,:<>|&\\"  # more must come: 1 +, 2^
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[A-Za-z]*\*?\}?|\\[A-Za-z]+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{[^{}]*\}")
_NAME = re.compile(r"^\s*\$?\s*[^\W\d_]\w?\s*=")  # of x = 3
_CONSTANT = re.compile(r"\\(?:pi|sqrt|frac|log|ln|sin|cos|tan)|\be\b|\bi\b")
# What announces an answer that no verifier setting reads: GSM8K's mark, or the words, in the last line.
_MARK = re.compile(r"####\s*|\banswer(?:\s+is)?\s*[:=]?[\s*$]*", re.IGNORECASE)
LONGEST = 60  # characters of a number


class Reading(NamedTuple):
    """A beginning of the text that the verifier reads anew."""

    end: int  # of the beginning
    start: int  # where the answer in it starts
    seen: str  # the beginning, without what the verifier does not look at
    sentence: bool = False  # it has words that the gold does not have: only what follows an "=" can be right


def answer_starts(
    texts: list[str], golds: list[str], verifier: MathVerifier, ends: Callable[[str], Sequence[int] | None]
) -> list[int | None]:
    """answer_start of every text, with all of the verifier's processes busy."""

    def one(text: str, gold: str) -> int | None:
        return answer_start(text, gold, verifier, ends(text) if verifier.fallback != "none" else None)

    with ThreadPoolExecutor(verifier.workers) as threads:
        return list(threads.map(one, texts, golds))


def answer_start(text: str, gold: str, verifier: MathVerifier | None, ends: Sequence[int] | None = None) -> int | None:
    """Index of the first character of what gives the answer away; None where nothing does.

    Args:
        verifier: None: only the last answer of the text is looked for.
        ends: character positions at which a token ends, and thus a prefix can, ascending; None: any.
    """
    if verifier is None:
        return _final_start(text, "none")
    final = _final_start(text, verifier.fallback)
    readings = merge(sorted(_boxes(text)), _fallback_readings(text, gold, verifier.fallback, ends))

    def right(text: str) -> bool:
        return verifier.score_one(text, gold).value > 0

    found = next((one.start for one in readings if _may_be_right(one, right) and right(one.seen)), None)
    return min((start for start in (found, final) if start is not None), default=None)


def _may_be_right(reading: Reading, right: Callable[[str], bool]) -> bool:
    """False for a sentence that says something else behind its "=", which is quicker to judge than all of it."""
    return not reading.sentence or right(f"\\boxed{{{reading.seen.rpartition('=')[2].strip(' $.')}}}")


def _boxes(text: str) -> Iterator[Reading]:
    for box in OPEN_BOX.finditer(text):
        end = _close(text, box.end())
        if end is not None:
            thought = text.rfind(_END, 0, end)
            yield Reading(end, box.start(), text[max(thought, 0) : end])


def _close(text: str, start: int) -> int | None:
    """End of the box whose content begins at `start`; None when it does not close within MAX_CHARACTERS."""
    depth = 1
    for brace in _BRACE.finditer(text, start, start + MAX_CHARACTERS + 1):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return brace.end()
    return None


def _fallback_readings(text: str, gold: str, fallback: str, ends: Sequence[int] | None) -> Iterator[Reading]:
    if fallback == "none":
        return
    if fallback == "last_number" and not may_be_number(gold):
        return
    beginnings: set[str] = set()
    answers: set[str] = set()
    for start, end in _read_parts(text):
        readings = _lines(text, gold, start, end) if fallback == "last_line" else _numbers(text, start, end)
        for reading in readings:
            reading = _whole_tokens(text, reading, ends)
            if reading.seen in beginnings:
                continue
            beginnings.add(reading.seen)
            answer = FALLBACKS[fallback](reading.seen)
            if answer and answer not in answers:
                answers.add(answer)
                yield reading._replace(start=_last(text, answer, reading))


def _whole_tokens(text: str, reading: Reading, ends: Sequence[int] | None) -> Reading:
    """The reading up to the end of the token that it ends in: "}$" may be one, and no prefix ends between the two."""
    place = bisect_left(ends, reading.end) if ends is not None else 0
    if ends is None or place == len(ends):
        return reading
    return reading._replace(end=ends[place], seen=reading.seen + text[reading.end : ends[place]])


def _last(text: str, answer: str, reading: Reading) -> int:
    found = text.rfind(answer, reading.start, reading.end)
    return reading.start if found < 0 else found


def _read_parts(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts in which a fallback looks for an answer."""
    start = 0
    while True:
        thought = text.find(_END, start)
        end = len(text) if thought < 0 else thought
        unread = _UNREAD.search(text, start, end)
        yield start, unread.start() if unread else end
        if thought < 0:
            return
        start = thought + len(_END)


def _numbers(text: str, start: int, end: int) -> Iterator[Reading]:
    """Every beginning that ends inside, or right after, a number."""
    for chunk in _CHUNK.finditer(text, start, end):
        for at in range(chunk.start(), chunk.end()):
            if text[at].isdigit() or text[at] in "}%":
                first = max(chunk.start(), at + 1 - LONGEST)
                yield Reading(at + 1, first, text[max(start, first - 3) : at + 1])


def may_be_number(gold: str) -> bool:
    """Whether a number, or numbers with commas (1,2), could equal the gold; not so for words, or a formula in x."""
    gold = _NAME.sub("", _TEXT.sub(" ", gold))
    bare = _COMMAND.sub(" ", gold)
    if not re.search(r"\d", bare):
        return bool(_CONSTANT.search(gold))
    return not re.search(r"[^\W\d_].*[\d+\-*/^(]", re.sub(r"[ei]\b|\be|(?<=\d)e(?=\d)", "", bare))


def _lines(text: str, gold: str, start: int, end: int) -> Iterator[Reading]:
    """Every beginning of every line, but for those with words that the gold does not have: they are not equal."""
    golden = [word.lower() for word in _WORD.findall(_COMMAND.sub(" ", gold))]
    words = [*map(str.lower, _WORD.findall(gold)), "and", "or"]
    for line in _LINE.finditer(text, start, end):
        value = FALLBACKS["last_line"](line.group())
        if value is None:
            continue
        first = line.start() + line.group().rfind(value)  # a label such as "Answer:" is not looked at
        foreign = False
        for at in range(first, min(line.end(), first + MAX_CHARACTERS)):
            if text[at].isspace() or text[at] in _OPEN:
                continue
            if text[at].isalpha() and not foreign:
                if text[at : at + 2].isalpha() and at + 1 < line.end() and not golden:  # in the middle of a word
                    continue
                said = _WORD.findall(_COMMAND.sub(" ", text[first : at + 1]))
                foreign = any(not any(word.startswith(one.lower()) for word in words) for one in said)
            # "Total = 72" may be read as 72, and as nothing else
            if foreign and not ("=" in text[first:at] and (text[at].isdigit() or text[at] in "})$%")):
                continue
            yield Reading(at + 1, line.start(), text[line.start() : at + 1], foreign)


def _final_start(text: str, fallback: str) -> int | None:
    """Where the last answer of the text starts, right or wrong."""
    boxes = [box.start() for box in OPEN_BOX.finditer(text)]
    if boxes:
        content = _content(text, boxes[-1])
        same = (start for start in boxes if start == boxes[-1] or content and _content(text, start) == content)
        return next(same)
    if fallback != "none":
        answer = extract_answer(text, fallback)
        return text.rfind(answer) if answer else None
    last = max(text.rstrip().rfind("\n"), 0)
    marks = [mark.end() for mark in _MARK.finditer(text, last) if text[mark.end() :].strip(" .*$")]
    return marks[-1] if marks else None


def _content(text: str, start: int) -> str | None:
    """What the box at `start` holds, without spaces."""
    first = text.index("{", start) + 1
    end = _close(text, first)
    return None if end is None else re.sub(r"\s+", "", text[first : end - 1])
