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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openrlhf_prefix.data.files import iterate
from openrlhf_prefix.data.rows import Columns, parse, prompt_text, refuse
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


def stats(name: str, target: Path, columns: Columns, split: str = "train", tokenizer: Any = None) -> Counter[str]:
    """Draws the picture of one file; returns how many answers there are of each kind.

    Raises:
        UserError: rows that break the contract, none at all, a target that is no .png, or matplotlib is missing.
    """
    if target.suffix.lower() != ".png":
        raise UserError(f"{target} must end in .png")
    prompts: list[int] = []
    demonstrations: list[int] = []
    per_problem: list[int] = []
    kinds: Counter[str] = Counter()
    bad: list[str] = []
    for number, raw in iterate(name, split):
        row = parse(number, raw, columns, bad)
        if row is None:
            continue
        prompts.append(_length(prompt_text(row), tokenizer))
        demonstrations += [_length(text, tokenizer) for text in row.demonstrations]
        per_problem.append(len(row.demonstrations))
        kinds[answer_kind(row.answer)] += 1
    refuse(name, bad)
    if not prompts:
        raise UserError(f"{name} holds no rows: check the file and the split {split!r}")
    _draw(
        target,
        Path(name).name,
        "characters" if tokenizer is None else "tokens",
        prompts,
        demonstrations,
        per_problem,
        kinds,
    )
    return kinds


def _length(text: str, tokenizer: Any) -> int:
    return len(text) if tokenizer is None else len(tokenizer([text], add_special_tokens=False)["input_ids"][0])


def _draw(
    target: Path,
    title: str,
    unit: str,
    prompts: Sequence[int],
    demonstrations: Sequence[int],
    per_problem: Sequence[int],
    kinds: Counter[str],
) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("data stats draws with matplotlib, which is not installed: pip install matplotlib") from None
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the machine has
    (first, second), (third, fourth) = figure.subplots(2, 2)
    for axes, lengths, what in ((first, prompts, "prompt"), (second, demonstrations, "demonstration")):
        axes.hist(lengths, bins=min(50, max(lengths, default=0) - min(lengths, default=0) + 1))
        axes.set(title=f"{what} length", xlabel=unit, ylabel=f"{what}s")
    tally = Counter(per_problem)
    third.bar([str(number) for number in sorted(tally)], [tally[number] for number in sorted(tally)], width=0.5)
    third.set(title="demonstrations of a problem", xlabel="demonstrations", ylabel="problems")
    names = [kind for kind, _ in kinds.most_common()]
    fourth.barh(names[::-1], [kinds[kind] for kind in names[::-1]], height=0.5)
    fourth.set(title="kind of answer", xlabel="problems")
    figure.suptitle(f"{title}: {len(prompts)} problems, {len(demonstrations)} demonstrations")
    figure.savefig(target, dpi=120)
