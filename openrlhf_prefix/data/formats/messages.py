"""Plain chat fine-tuning sets: a conversation whose last message is the assistant's.

    messages   [{"role": "user", ..}, {"role": "assistant", "content": "... so \\boxed{3}"}]
    answer     optional; without it the answer is what stands in the last message's final box

AM-DeepSeek-R1-Distilled-1.4M writes the answer into a message:
{"role": "user", "content": .., "info": {"reference_answer": "3"}}. The last message becomes the demonstration,
everything before it the prompt. A conversation without an answer to verify is of no use here and is said to be so.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import answer, boxed_answer, chat, contract, optional, split_conversation

GOLDS = ("ground_truth", "reference_answer")  # names under `info` of a message


def messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    prompt, last = split_conversation(chat(row, "messages"), "messages")
    return contract(
        [last],
        id=optional(row, "id"),
        prompt=prompt,
        answer=conversation_answer(row, row["messages"], last),
        source=optional(row, "source"),
    )


def conversation_answer(row: dict[str, Any], turns: list[dict[str, Any]], last: str) -> str:
    """The column `answer`, else what a message's `info` names, else the final box of the last one."""
    if optional(row, "answer") is not None:
        return answer(row, "answer")
    for turn in turns:
        info = turn.get("info")
        for name in GOLDS:
            if isinstance(info, dict) and info.get(name) not in (None, ""):
                return answer(info, name)
    return boxed_answer(last, "its last message")
