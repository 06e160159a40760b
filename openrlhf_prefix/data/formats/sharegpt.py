"""ShareGPT's `conversations`, and AM-Thinking-v1-Distilled (a-m-team), which adds the answer to them.

    conversations   [{"from": "human", "value": ..}, {"from": "gpt", "value": "... so \\boxed{3}"}]
                    AM-Thinking: {"from": "human", "value": .., "info": {"ground_truth": "3"}}, "from": "assistant"
    system          optional text, the first message
    answer          optional; else the ground_truth, else what stands in the last message's final box

Source: public code that reads a-m-team/AM-Thinking-v1-Distilled (`conversations` with from and value, `system`).
"""

from typing import Any

from openrlhf_prefix.data.formats.messages import conversation_answer
from openrlhf_prefix.data.formats.parts import Fault, chat, contract, elements, optional, split_conversation

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def sharegpt(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    turns = elements(row, "conversations", dict)
    if not turns:
        raise Fault("has nothing in column 'conversations'")
    said = [_message(index, turn) for index, turn in enumerate(turns)]
    if system := optional(row, "system"):
        said.insert(0, {"role": "system", "content": system})
    conversation = chat({**row, "conversations": said}, "conversations")
    prompt, last = split_conversation(conversation, "conversations")
    return contract(
        [last],
        id=optional(row, "id"),
        prompt=prompt,
        answer=conversation_answer(row, turns, last),
        source=optional(row, "source"),
    )


def _message(index: int, turn: dict[str, Any]) -> dict[str, Any]:
    speaker = turn.get("from")
    if speaker not in ROLES:
        raise Fault(
            f"has {speaker!r} under 'from' of element {index} of column 'conversations', which must be one of "
            f"{', '.join(ROLES)}"
        )
    return {"role": ROLES[speaker], "content": turn.get("value")}
