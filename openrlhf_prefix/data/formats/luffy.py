"""LUFFY's OpenR1-Math-46k (Elliott/Openr1-Math-46k-8192): verl rows with a `target`.

    prompt         [{"role": "system", ..}, {"role": "user", ..}]
    target         [{"role": "assistant", "content": "<think> ..."}], one demonstration an element
    reward_model   {"ground_truth": "3", "style": "rule"}
    data_source    "openr1"          ability, extra_info   not used

Source: public code that reads Elliott/Openr1-Math-46k-8192. Nothing promises that `extra_info.index` is unique, so ids
are file name and row number.
"""

from typing import Any

from openrlhf_prefix.data.formats.parts import Fault, answer, chat, contract, optional, value


def luffy(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One contract row. Raises Fault."""
    demonstrations = []
    if value(row, "target") not in (None, []):
        for index, message in enumerate(chat(row, "target")):
            if message["role"] != "assistant":
                raise Fault(f"has a message of {message['role']!r} as element {index} of column 'target'")
            if not message["content"].strip():
                raise Fault(f"has an empty message as element {index} of column 'target'")
            demonstrations.append(message["content"])
    return contract(
        demonstrations,
        prompt=chat(row, "prompt"),
        answer=answer(row, "reward_model.ground_truth"),
        source=optional(row, "data_source"),
    )
