"""DeepMath-103K (zwhe99/DeepMath-103K): a question with three traces of DeepSeek-R1.

    question   text        final_answer   text        r1_solution_1, r1_solution_2, r1_solution_3   text
    difficulty, topic      not used

Source: the data set's card. Every solution that is there becomes a demonstration; the card's authors kept questions
whose three solutions agree with the answer.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import answer, contract, optional, text, value

SOLUTIONS = ("r1_solution_1", "r1_solution_2", "r1_solution_3")


def deepmath(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    value(row, SOLUTIONS[0])  # a set without them is another layout
    return contract(
        [text(row, name) for name in SOLUTIONS if optional(row, name) not in (None, "")],
        prompt=text(row, "question"),
        answer=answer(row, "final_answer"),
    )
