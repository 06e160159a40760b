r"""Multiple choice: the options of a question shuffled, and the letter that an answer stands for.

    Which is a planet?\n\nA) Mars\nB) Sirius\nC) Vega\n          gold A
    Which is a planet?\n\nA) Vega\nB) Mars\nC) Sirius\n          gold B

Models prefer some letters, so papers shuffle. The order is a function of the question alone: the same on every
machine, for every model and every seed, so that two evaluations can be paired. A question stays as it is where an
order has a meaning ("both A and B", "none of the above"), where the last option may be followed by something else, or
where its gold is none of its labels.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from openrlhf_prefix.algorithm.sampler import stable_bits

_BOX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|rm|bf)\b|[\\${}*\s]")
_NAMED = re.compile(
    r"^(?:(?:the)?(?:correct|final|best)?(?:answer|option|choice)(?:is)?:?)?\(?([A-J1-9])\)?(?:[).:].*)?$"
)


@dataclass(frozen=True)
class Alphabet:
    """Labels that options may have. Lists within options ("1. NaOH") are numbered, so letters are looked for first."""

    labels: str

    @cached_property
    def line(self) -> re.Pattern[str]:
        """The start of an option."""
        return re.compile(rf"^[ \t]*\(?([{self.labels}])[).:][ \t]+(?=\S)", re.MULTILINE)

    @cached_property
    def reference(self) -> re.Pattern[str]:
        """An option that speaks of others."""
        one = f"[{self.labels}]"
        return re.compile(rf"\b(?i:above|below|of these|of them)\b|\b{one} (?:and|or) {one}\b")


ALPHABETS = (Alphabet("ABCDEFGHIJ"), Alphabet("123456789"))


@dataclass(frozen=True)
class Options:
    """Where a question's options stand."""

    labels: str  # "ABCD"
    spans: tuple[tuple[int, int], ...]  # of each option's text, without the space around it
    alphabet: Alphabet


def find(question: str) -> Options | None:
    """The options at the end of a question, from the last line that begins with a first label; None without any."""
    for alphabet in ALPHABETS:
        marks = list(alphabet.line.finditer(question))
        starts = [index for index, mark in enumerate(marks) if mark.group(1) == alphabet.labels[0]]
        marks = marks[starts[-1] :] if starts else []
        labels = "".join(mark.group(1) for mark in marks)
        if len(marks) >= 2 and alphabet.labels.startswith(labels):
            ends = [mark.start() for mark in marks[1:]] + [len(question)]
            texts = (question[mark.end() : end].rstrip() for mark, end in zip(marks, ends, strict=True))
            spans = ((mark.end(), mark.end() + len(text)) for mark, text in zip(marks, texts, strict=True))
            return Options(labels, tuple(spans), alphabet)
    return None


def shuffled(question: str, gold: str) -> tuple[str, str] | None:
    """(question, gold) with the options in another order, drawn uniformly; None where they must stay."""
    options = find(question)
    if options is None or gold not in options.labels:
        return None
    texts = [question[start:end] for start, end in options.spans]
    if any(options.alphabet.reference.search(text) for text in texts) or "\n\n" in texts[-1]:
        return None
    order = sorted(range(len(texts)), key=lambda index: stable_bits("option", question, index))
    parts, at = [], 0
    for (start, end), index in zip(options.spans, order, strict=True):
        parts += [question[at:start], texts[index]]
        at = end
    return "".join([*parts, question[at:]]), options.labels[order.index(options.labels.index(gold))]


def chosen(answer: str) -> str | None:
    r"""The label that an extracted answer names: "\text{(B)}", "B) Mars", "The answer is B."; None for others."""
    bare = _BOX.sub("", answer)
    if len(bare) == 1:
        bare = bare.upper()
    found = _NAMED.match(re.sub("Answer|The|Option|Choice", lambda word: word.group().lower(), bare))
    return found.group(1) if found else None
