"""OpenR1-Math-220k (open-r1/OpenR1-Math-220k): a problem with two to four traces of DeepSeek-R1.

    problem                   text          answer   text          uuid, source   become id and source
    generations               ["<think> ...", ..], null: none
    correctness_math_verify   [true, false], one a generation; null elements were not verified
    correctness_llama         [true, true], optional: the verdict of Llama-3.3-70B on rows that math-verify rejects
    is_reasoning_complete     [true, true], optional: whether the trace came to its end

Source: the data set's card. A generation becomes a demonstration when it is complete and math-verify, which is our
verifier too, found it right; in a row of which math-verify takes none, those that the second judge found right. The
others are counted. The `solution` of the source and `messages` (one generation again) are not used.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import answer, contract, elements, optional, same_length, text


def openr1(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    generations = elements(row, "generations", str)
    right = _flags(row, generations, "correctness_math_verify")
    if not any(right) and optional(row, "correctness_llama"):
        right = _flags(row, generations, "correctness_llama")
    complete = [True] * len(generations)
    if optional(row, "is_reasoning_complete") is not None:
        complete = _flags(row, generations, "is_reasoning_complete")
    verdicts = zip(generations, right, complete, strict=True)
    kept = [generation for generation, good, whole in verdicts if good and whole and generation.strip()]
    return contract(
        kept,
        len(generations) - len(kept),
        id=optional(row, "uuid"),
        prompt=text(row, "problem"),
        answer=answer(row, "answer"),
        source=optional(row, "source"),
    )


def _flags(row: dict[str, Any], generations: list[str], column: str) -> list[bool]:
    """One a generation."""
    flags = elements(row, column, bool, nullable=True)
    if generations or flags:
        same_length({"generations": generations, column: flags}, "generations", column)
    return [bool(flag) for flag in flags]
