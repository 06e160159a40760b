r"""The `data stats` verb: a picture of the lengths and of the kinds of answers.

12, -3, 1{,}000, 10^4 is an expression      integer, but for the last
0.5, 3.                                     decimal
1/2, \frac{1}{2}                            fraction
B, (C)                                      choice
east, \text{no solution}                    text
2\sqrt{3}, (1, 2), x^2 + 1                  expression
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_prefix.data.faults import refuse
from openrlhf_prefix.data.files import iterate
from openrlhf_prefix.data.prompts import Prompts, encode
from openrlhf_prefix.data.rows import Columns, parse
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward.answer import extract_boxed

_SIGN = r"[-+]?\s*"
# The first kind whose pattern is the whole answer, in this order.
KINDS = {
    "integer": re.compile(_SIGN + r"(?:\d+|\d{1,3}(?:(?:,|\{,\}|\\,)\s?\d{3})+)"),
    "decimal": re.compile(_SIGN + r"(?:\d+\.\d*|\.\d+)"),
    "fraction": re.compile(_SIGN + r"(?:\d+\s*/\s*\d+|\\[dt]?frac\s*(?:\{\s*-?\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d+))"),
    "choice": re.compile(r"\(?[A-E]\)?|\\text\s*\{\s*\(?[A-E]\)?\s*\}"),
    "text": re.compile(r"\\(?:text|mathrm|textbf)\s*\{[^{}]*\}|[^\W\d_]{2,}(?:[\s,.'-]+[^\W\d_]+)*\.?"),
}
OTHER = "expression"


def answer_kind(answer: str) -> str:
    r"""integer, decimal, fraction, choice, text or expression; $..$ and a box around the answer do not count."""
    bare = (extract_boxed(answer) or answer).strip().strip("$").strip()
    return next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(bare)), OTHER)


def stats(
    name: str, target: Path, columns: Columns, split: str = "train", prompts: Prompts | None = None
) -> Counter[str]:
    """Draws the picture of one file; returns how many answers there are of each kind.

    Args:
        prompts: how a run makes its prompts; lengths are in tokens if it has a tokenizer.

    Raises:
        UserError: rows that break the contract, none at all, a target that is no .png, or matplotlib is missing.
    """
    if target.suffix.lower() != ".png":
        raise UserError(f"{target} must end in .png")
    prompts = prompts or Prompts()
    lengths = Lengths()
    kinds: Counter[str] = Counter()
    bad: list[str] = []
    for number, raw in iterate(name, split):
        row = parse(number, raw, columns, bad)
        prompt = None if row is None else prompts.text(row, bad)
        if row is None or prompt is None:
            continue
        lengths.prompts.append(prompts.length(prompt))
        lengths.demonstrations += [_length(text, prompts.tokenizer) for text in row.demonstrations]
        lengths.per_problem.append(len(row.demonstrations))
        kinds[answer_kind(row.answer)] += 1
    refuse(name, bad)
    if not lengths.prompts:
        raise UserError(f"{name} holds no rows: check the file and the split {split!r}")
    _draw(target, Path(name).name, "characters" if prompts.tokenizer is None else "tokens", lengths, kinds)
    return kinds


@dataclass
class Lengths:
    """What the picture is drawn from, one number a prompt, a demonstration, and a problem."""

    prompts: list[int] = field(default_factory=list)
    demonstrations: list[int] = field(default_factory=list)
    per_problem: list[int] = field(default_factory=list)


def _length(text: str, tokenizer: Any) -> int:
    return len(text) if tokenizer is None else len(encode(tokenizer, [text])[0])


def _draw(target: Path, title: str, unit: str, lengths: Lengths, kinds: Counter[str]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("data stats draws with matplotlib, which is not installed: pip install matplotlib") from None
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the machine has
    (first, second), (third, fourth) = figure.subplots(2, 2)
    for axes, found, what in ((first, lengths.prompts, "prompt"), (second, lengths.demonstrations, "demonstration")):
        axes.hist(found, bins=min(50, max(found, default=0) - min(found, default=0) + 1))
        axes.set(title=f"{what} length", xlabel=unit, ylabel=f"{what}s")
    tally = Counter(lengths.per_problem)
    third.bar([str(number) for number in sorted(tally)], [tally[number] for number in sorted(tally)], width=0.5)
    third.set(title="demonstrations of a problem", xlabel="demonstrations", ylabel="problems")
    names = [kind for kind, _ in kinds.most_common()]
    fourth.barh(names[::-1], [kinds[kind] for kind in names[::-1]], height=0.5)
    fourth.set(title="kind of answer", xlabel="problems")
    figure.suptitle(f"{title}: {len(lengths.prompts)} problems, {len(lengths.demonstrations)} demonstrations")
    figure.savefig(target, dpi=120)
