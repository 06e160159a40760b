"""Plain chat fine-tuning sets: a conversation whose last message is the assistant's.

    messages   [{"role": "user", ..}, {"role": "assistant", "content": "... so \\boxed{3}"}]
    answer     optional; without it the answer is what stands in the last message's final box

The last message becomes the demonstration, everything before it the prompt. A conversation without an answer to verify
is of no use here and is said to be so.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import Fault, answer, chat, contract, optional
from openrlhf_prefix.reward.answer import extract_boxed


def messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    conversation = chat(row, "messages")
    *prompt, last = conversation
    if last["role"] != "assistant":
        raise Fault(f"ends with a message of {last['role']!r} in column 'messages': the assistant's is needed")
    if not any(message["role"] == "user" and message["content"].strip() for message in prompt):
        raise Fault("has no message of the user in column 'messages'")
    if prompt[-1]["role"] == "assistant":
        raise Fault("ends with two messages of the assistant in column 'messages'")
    gold = answer(row, "answer") if optional(row, "answer") is not None else extract_boxed(last["content"])
    if not gold or not gold.strip():
        raise Fault("has no answer: neither a column 'answer' nor a closed \\boxed{..} in its last message")
    return contract(
        [last["content"]],
        id=optional(row, "id"),
        prompt=prompt,
        answer=gold,
        source=optional(row, "source"),
    )
