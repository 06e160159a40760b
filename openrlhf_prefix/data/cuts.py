r"""How much of a demonstration a prefix may show, and which problems keep theirs.

A prefix that reaches the final answer gives the reward away: whatever follows, the verifier finds the box. So the
drawable part ends before the box, in tokens:

    demonstration         3/6 is 1/2, so \boxed{1/2}.
    its tokens            3/6 | is | 1/2 | , | so | \ | boxed | { | 1/2 | }.       10; " \" is one token
    those up to the box   3/6 | is | 1/2 | , | so |                               the first 5 are the same; then " "
    limit                 5

The limit is the common beginning of the ids of the whole text and of the text up to its box. These ids decode to a
beginning of that text, for any tokenizer, fast or slow, whatever merges across the cut; a token that holds anything of
the box is left out. (Character offsets would say the same, but only fast tokenizers have them, and for 46 000 long
demonstrations they are gigabytes of Python tuples.)

A worked text may box its answer more than once. The first box with the content of the last one counts: an earlier box
gives the answer away just as well. A box with other content, such as a guess put right later, does not.
"""

import re
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from openrlhf_prefix.algorithm.sampler import stable_uniform
from openrlhf_prefix.reward.answer import MAX_CHARACTERS

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")  # these two find what reward/answer.py finds
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def answer_start(text: str) -> int | None:
    """Index of the first character of the box that gives the final answer away; None without any box."""
    starts = [box.start() for box in _BOX.finditer(text)]
    if not starts:
        return None
    final = _content(text, starts[-1])
    return next(start for start in starts if start == starts[-1] or final and _content(text, start) == final)


def _content(text: str, start: int) -> str | None:
    """What the box at `start` holds, without spaces; None when it does not close within MAX_CHARACTERS."""
    first = text.index("{", start) + 1
    depth = 1
    for brace in _BRACE.finditer(text, first, first + MAX_CHARACTERS + 1):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return re.sub(r"\s+", "", text[first : brace.start()])
    return None


def common_length(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> int:
    """How many leading ids two sequences share: (1, 2, 3) and (1, 2, 4, 5) share 2."""
    length = min(len(first), len(second))
    different = np.flatnonzero(np.asarray(first[:length]) != np.asarray(second[:length]))
    return int(different[0]) if different.size else length


def keeps_demonstrations(seed: int, problem_id: str, fraction: float) -> bool:
    """Whether a problem is among the `fraction` that keep their demonstrations.

    Each problem has one number in [0, 1) for a seed and is in when it lies below the fraction: the 1 % of one run are
    among the 10 % of another, in any order of the file, and adding problems changes nothing for the others.
    """
    return stable_uniform("demonstrations", seed, problem_id) < fraction


def trains_whole(args: SimpleNamespace) -> bool:
    """Whether demonstrations are trained to their end, the stop token included; `args` is nested."""
    flags = args.hybrid
    return flags.demonstration == "whole" or flags.sft_steps != 0 or flags.rescue != "none"
