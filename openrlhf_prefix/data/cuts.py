r"""How much of a demonstration a prefix may show, and which problems keep theirs.

A prefix that reaches the final answer gives the reward away: whatever follows, the verifier finds it. So the drawable
part ends before the answer (data/answers.py says where that is), in tokens:

    demonstration         3/6 is 1/2, so \boxed{1/2}.
    its tokens            3/6 | is | 1/2 | , | so | \ | boxed | { | 1/2 | }.       10; " \" is one token
    those up to the box   3/6 | is | 1/2 | , | so |                               the first 5 are the same; then " "
    limit                 5

The limit is the common beginning of the ids of the whole text and of the text up to its answer. These ids decode to a
beginning of that text, for any tokenizer, fast or slow, whatever merges across the cut; a token that holds anything of
the answer is left out. (Character offsets would say the same, but only fast tokenizers have them, and for 46 000 long
demonstrations they are gigabytes of Python tuples.)
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from openrlhf_prefix.algorithm.sampler import stable_uniform
from openrlhf_prefix.data.answers import answer_starts
from openrlhf_prefix.data.prompts import encode
from openrlhf_prefix.reward import MathVerifier


def encode_with_limits(
    tokenizer: Any, texts: Sequence[str], golds: Sequence[str], verifier: MathVerifier | None
) -> list[tuple[np.ndarray, int]]:
    """(ids, most tokens of a prefix) of each demonstration: those before its answer, at most all but the last.

    Args:
        golds: the answer of each demonstration's problem.
        verifier: with the settings of the run; None: prefixes may reach the answer.
    """
    encoded = encode(tokenizer, texts)
    limits = [len(ids) - 1 for ids in encoded]
    if verifier is None:
        return list(zip(encoded, limits, strict=True))
    starts = answer_starts(list(texts), list(golds), verifier, lambda text: token_ends(tokenizer, text))
    cut = [index for index, start in enumerate(starts) if start is not None]
    for index, head in zip(cut, encode(tokenizer, [texts[i][: starts[i]] for i in cut]), strict=True):
        limits[index] = min(limits[index], common_length(encoded[index], head))
    return list(zip(encoded, limits, strict=True))


def token_ends(tokenizer: Any, text: str) -> Sequence[int] | None:
    """Character positions at which a token ends; None for a tokenizer that cannot say: it may be anywhere."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return sorted({end for _, end in found["offset_mapping"]})


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
