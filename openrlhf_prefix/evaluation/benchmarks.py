"""The benchmarks that papers report: of each its metric, and the two means that are the papers' last columns.

    AIME 2024, AIME 2025, AMC      avg@32, the mean over problems of (correct / 32): few problems, many samples
    MATH-500, Minerva, Olympiad    pass@1 of one sample
    ARC-c, GPQA, MMLU-Pro          pass@1 of one sample, multiple choice
    mean of six | mean of three    unweighted means of the six of mathematics | of the three out of domain

Source: LUFFY (arXiv 2504.14945; data/valid*.parquet of its repository, where 32 samples are 32 equal rows), and papers
that compare with it. A problem's source is the column `data_source`, in the spelling of any of the usual files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

SIX, THREE = "mean of six", "mean of three"


@dataclass(frozen=True)
class Benchmark:
    """One of them. Example: BENCHMARKS["aime"] is Benchmark("AIME 2024", 32, "mean of six")."""

    title: str
    samples: int  # a problem
    column: str  # the mean that it belongs to
    choices: bool = False  # multiple choice


BENCHMARKS = {
    "aime": Benchmark("AIME 2024", 32, SIX),
    "aime25": Benchmark("AIME 2025", 32, SIX),
    "amc": Benchmark("AMC", 32, SIX),
    "math": Benchmark("MATH-500", 1, SIX),
    "minerva": Benchmark("Minerva", 1, SIX),
    "olympiad_bench": Benchmark("Olympiad", 1, SIX),
    "arc_c": Benchmark("ARC-c", 1, THREE, choices=True),
    "gpqa": Benchmark("GPQA-diamond", 1, THREE, choices=True),
    "mmlu_pro": Benchmark("MMLU-Pro", 1, THREE, choices=True),
}
"""By the name that LUFFY's files have under `data_source`."""

ALIASES = {
    "aime24": "aime",
    "aime2024": "aime",
    "aime2025": "aime25",
    "amc23": "amc",
    "math500": "math",
    "minervamath": "minerva",
    "olympiad": "olympiad_bench",
    "olympiadbench": "olympiad_bench",
    "arcc": "arc_c",
    "arcchallenge": "arc_c",
    "gpqadiamond": "gpqa",
    "mmlupro": "mmlu_pro",
}


def known(source: str | None) -> str | None:
    """The key of BENCHMARKS for a source as files spell it; None for anything else.

    Example: "HuggingFaceH4/MATH-500" is "math", "AIME_2024" is "aime", "chains" is None.
    """
    name = re.sub(r"[^a-z0-9]", "", (source or "").rpartition("/")[2].lower())
    name = ALIASES.get(name, name)
    return name if name in BENCHMARKS else None


def metric(samples: int) -> str:
    """What the mean share of right samples is called: "avg@32"; of one sample "pass@1"."""
    return "pass@1" if samples == 1 else f"avg@{samples}"


def means(scores: Mapping[str, tuple[float, float | None]]) -> dict[str, tuple[float, float | None]]:
    """Column -> (mean, standard error) for the columns all of whose benchmarks have a score.

    The benchmarks share no problems: the error of the mean of m of them is sqrt(sum of squared errors) / m.

    Args:
        scores: (score, standard error over problems, or None) by key of BENCHMARKS; other keys are passed over.
    """
    found: dict[str, tuple[float, float | None]] = {}
    for column in (SIX, THREE):
        members = [name for name, benchmark in BENCHMARKS.items() if benchmark.column == column]
        if all(name in scores for name in members):
            mean = sum(scores[name][0] for name in members) / len(members)
            errors = [error for name in members if (error := scores[name][1]) is not None]
            whole = len(errors) == len(members)
            found[column] = mean, math.sqrt(sum(error**2 for error in errors)) / len(members) if whole else None
    return found
