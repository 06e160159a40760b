"""OpenR1-Math-220k (open-r1/OpenR1-Math-220k): a problem with two to four traces of DeepSeek-R1.

    problem                   text          answer   text          uuid, source   become id and source
    generations               ["<think> ...", ..], null: none
    correctness_math_verify   [true, false], one a generation; null elements were not verified
    is_reasoning_complete     [true, true], optional: whether the trace came to its end

Source: the data set's card. A generation becomes a demonstration when math-verify, which is our verifier too, found it
right and it is complete; the others are counted. The `solution` of the source and `messages` (one generation again)
are not used.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import answer, contract, elements, optional, same_length, text


def openr1(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    generations = elements(row, "generations", str)
    good = [bool(generation.strip()) for generation in generations]
    for column in ("correctness_math_verify", "is_reasoning_complete"):
        if column == "is_reasoning_complete" and optional(row, column) is None:
            continue
        flags = elements(row, column, bool, nullable=True)
        if generations or flags:
            same_length({"generations": generations, column: flags}, "generations", column)
        good = [before and bool(flag) for before, flag in zip(good, flags, strict=True)]
    kept = [generation for generation, right in zip(generations, good, strict=True) if right]
    return contract(
        kept,
        len(generations) - len(kept),
        id=optional(row, "uuid"),
        prompt=text(row, "problem"),
        answer=answer(row, "answer"),
        source=optional(row, "source"),
    )
