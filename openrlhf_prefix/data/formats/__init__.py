"""Published data sets in their own layouts: FORMATS[name](row) gives rows of the contract, or what is wrong.

    FORMATS["openr1"]({"problem": "1+2?", "answer": "3", "generations": ["so \\boxed{3}"], ...})
        -> [{"prompt": "1+2?", "answer": "3", "demonstrations": ["so \\boxed{3}"]}]
    FORMATS["openr1"]({"problem": "1+2?", "answer": None, ...})  ->  "has nothing in column 'answer'"

Another layout is one more function and one more line of the table. Demonstrations that a data set itself marks as
wrong are left out, and their number stands in the row as `rejected_demonstrations`.
"""

import difflib
import re
from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.data.formats.deepmath import deepmath
from openrlhf_prefix.data.formats.luffy import luffy
from openrlhf_prefix.data.formats.math_sets import gsm8k, math
from openrlhf_prefix.data.formats.messages import messages
from openrlhf_prefix.data.formats.openr1 import openr1
from openrlhf_prefix.data.formats.parts import Fault, Reader
from openrlhf_prefix.data.formats.prefix_rft import prefix_rft
from openrlhf_prefix.data.formats.sharegpt import sharegpt
from openrlhf_prefix.data.formats.verl import verl
from openrlhf_prefix.data.rows import lookup


@dataclass(frozen=True)
class Format:
    """One layout. Called with a row it gives contract rows, or the Fault of its reader as a sentence."""

    reader: Reader
    sets: str  # data sets that are published so
    columns: tuple[str, ...]  # those that tell it from others
    about: str = ""

    @property
    def name(self) -> str:
        return self.reader.__name__

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]] | str:
        try:
            return self.reader(row)
        except Fault as fault:
            return str(fault)

    def line(self) -> str:
        """What `data import --list` says of it."""
        return f"{self.name:<12}{self.sets}: {', '.join(self.columns)}{self.about and f' ({self.about})'}"


_GOLD = "reward_model.ground_truth"
FORMATS: dict[str, Format] = {
    layout.name: layout
    for layout in (
        Format(luffy, "LUFFY's OpenR1-Math-46k", ("prompt", "target", _GOLD)),
        Format(prefix_rft, "the authors' recipe", ("prompt", "demos", _GOLD), "demos_corr marks wrong ones"),
        Format(openr1, "OpenR1-Math-220k", ("problem", "answer", "generations", "correctness_math_verify")),
        Format(deepmath, "DeepMath-103K", ("question", "final_answer", "r1_solution_1"), "three solutions"),
        Format(math, "MATH, MATH-500, NuminaMath", ("problem", "solution"), "answer: a column, or the final box"),
        Format(gsm8k, "GSM8K", ("question", "answer"), "the answer ends in a line '#### 72'"),
        Format(messages, "chat sets, AM-DeepSeek-R1-Distilled", ("messages",), "the last one demonstrates"),
        Format(sharegpt, "ShareGPT, AM-Thinking-v1-Distilled", ("conversations",), "from and value"),
        Format(verl, "DAPO-Math-17k, Skywork-OR1, verl", ("prompt", _GOLD), "no demonstrations"),
    )
}
"""By name. Where the columns of several are there, the first one counts."""


def listing() -> str:
    """One line a layout."""
    return "\n".join(layout.line() for layout in FORMATS.values())


def nearest(row: dict[str, Any]) -> Format | None:
    """The layout of whose columns the row has the largest share, the first of equals; None when it has none."""
    best = max(FORMATS.values(), key=lambda layout: _share(layout, row))
    return best if _share(best, row) else None


def _share(layout: Format, row: dict[str, Any]) -> float:
    return sum(lookup(row, name) is not None for name in layout.columns) / len(layout.columns)


def named_like(name: str) -> Format | None:
    """The layout whose name, or data set, is nearest to what a user wrote: "DAPO" is verl, "opnr1" is openr1."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    for layout in FORMATS.values():
        known = _letters(f"{layout.name} {layout.sets}")
        if len("".join(words)) > 2 and all(word in known for word in words):
            return layout
    found = difflib.get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.6)
    return FORMATS[found[0]] if found else None


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def hint(row: dict[str, Any], name: str, columns: tuple[str, ...]) -> str:
    """What to do with a file whose rows lack a column of the contract; empty where they have them.

    Args:
        row: a row of the file.
        name: of the file.
        columns: what prompt and answer are called.
    """
    if all(column in row or lookup(row, column) is not None for column in columns):
        return ""
    there, layout = f"The columns are {', '.join(row)}", nearest(row)
    if layout is None or not any(lookup(row, column) is not None for column in layout.columns if column != "prompt"):
        return f"{there}: openrlhf-prefix data import --list names the layouts that can be converted"
    fits = "those" if _share(layout, row) == 1 else "nearest to those"
    return f"{there}, {fits} of {layout.sets}: openrlhf-prefix data import {layout.name} {name} OUT.jsonl"
