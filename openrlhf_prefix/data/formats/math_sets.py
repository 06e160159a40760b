"""MATH, MATH-500 (HuggingFaceH4/MATH-500) and NuminaMath: a problem with one worked solution.

    problem   text        solution   text, ends in a box        answer   text; without it the solution's final box
    unique_id (MATH-500) becomes the id, source (NuminaMath) the source; subject, level, type: not used

GSM8K (openai/gsm8k): a question, and an answer that ends in a line with the gold.

    question   text       answer     "48/2 = <<48/2=24>>24 ...\\n#### 72"

The text of an answer is kept as published: no box in it, so that a run wants --verifier.fallback last_number.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import Fault, answer, boxed_answer, contract, optional, text

MARK = "####"


def math(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    solution = text(row, "solution")
    gold = boxed_answer(solution, "column 'solution'") if optional(row, "answer") is None else answer(row, "answer")
    return contract(
        [solution],
        id=optional(row, "unique_id"),
        prompt=text(row, "problem"),
        answer=gold,
        source=optional(row, "source"),
    )


def gsm8k(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    worked = text(row, "answer")
    _, mark, gold = worked.rpartition(MARK)
    if not mark or not gold.strip():
        raise Fault(f"has no line '{MARK} ANSWER' at the end of column 'answer'")
    return contract([worked], prompt=text(row, "question"), answer=gold.strip())
