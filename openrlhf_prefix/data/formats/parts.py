"""What the readers of published layouts share: values found by a dotted name and checked, or a Fault."""

from collections.abc import Callable
from typing import Any

from openrlhf_prefix.data.messages import read_messages
from openrlhf_prefix.data.rows import unwrap
from openrlhf_prefix.reward.answer import extract_boxed
from openrlhf_prefix.reward.gold import gold_text

Reader = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Fault(ValueError):
    """What is wrong with a row: the sentence goes on after "row 7 "."""


def value(row: dict[str, Any], name: str) -> Any:
    """What stands under a dotted name such as reward_model.ground_truth; None where the last part is null.

    Raises:
        Fault: a part is missing, or stands in something that has no parts.
    """
    found: Any = row
    parts = name.split(".")
    for index, part in enumerate(parts):
        if not isinstance(found, dict):
            raise Fault(f"has {_kind(found)} in column {'.'.join(parts[:index])!r}, which must have parts ({part})")
        if part not in found:
            raise Fault(f"has no column {'.'.join(parts[: index + 1])!r}")
        found = found[part]
    return found


def optional(row: dict[str, Any], name: str) -> Any:
    """The value of a column that may be absent or null."""
    return row.get(name)


def text(row: dict[str, Any], name: str) -> str:
    """A text that is not blank."""
    found = value(row, name)
    if found is not None and not isinstance(found, str):
        raise Fault(f"has {_kind(found)} in column {name!r}, which must be text")
    if found is None or not found.strip():
        raise Fault(f"has nothing in column {name!r}")
    return found


def answer(row: dict[str, Any], name: str) -> str:
    """A gold answer: text or a number, also as the only element of a list."""
    found = unwrap(value(row, name))
    if isinstance(found, list) and len(found) != 1:
        raise Fault(f"has {len(found)} answers in column {name!r}, which must have one")
    if isinstance(found, (dict, list, bool)):
        raise Fault(f"has {_kind(found)} in column {name!r}, which must be text or a number")
    if found is None or not str(found).strip():
        raise Fault(f"has nothing in column {name!r}")
    try:
        return gold_text(found)
    except ValueError:
        raise Fault(f"has {found} in column {name!r}, which must be text or a finite number") from None


def chat(row: dict[str, Any], name: str) -> list[dict[str, str]]:
    """Chat messages, each with role and content alone."""
    found = value(row, name)
    if found is None:
        raise Fault(f"has nothing in column {name!r}")
    try:
        return [{"role": message["role"], "content": message["content"]} for message in read_messages(found)]
    except ValueError as fault:
        raise Fault(f"must have chat messages in column {name!r}, but {fault}") from None


def split_conversation(conversation: list[dict[str, str]], column: str) -> tuple[list[dict[str, str]], str]:
    """(prompt, demonstration): a conversation that ends with the assistant's message, cut before it."""
    *prompt, last = conversation
    if last["role"] != "assistant":
        raise Fault(f"ends with a message of {last['role']!r} in column {column!r}: the assistant's is needed")
    if not any(message["role"] == "user" and message["content"].strip() for message in prompt):
        raise Fault(f"has no message of the user in column {column!r}")
    if prompt[-1]["role"] == "assistant":
        raise Fault(f"ends with two messages of the assistant in column {column!r}")
    return prompt, last["content"]


def boxed_answer(text: str, where: str) -> str:
    """What stands in the final box of a worked text, where a data set has no column for the answer."""
    found = extract_boxed(text)
    if not found or not found.strip():
        raise Fault(f"has no answer: neither a column 'answer' nor a closed \\boxed{{..}} in {where}")
    return found


def elements(row: dict[str, Any], name: str, kind: type, nullable: bool = False) -> list[Any]:
    """A list whose elements are all of one type; null is the empty list."""
    found = value(row, name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Fault(f"has {_kind(found)} in column {name!r}, which must be a list")
    for index, element in enumerate(found):
        if not isinstance(element, kind) and not (nullable and element is None):
            raise Fault(f"has {_kind(element)} as element {index} of column {name!r}, which must be {_NAMES[kind]}")
    return found


def same_length(row: dict[str, Any], first: str, second: str) -> None:
    """Raises Fault unless two list columns have as many elements."""
    if len(row[first]) != len(row[second]):
        raise Fault(f"has {len(row[first])} elements in column {first!r} but {len(row[second])} in {second!r}")


def contract(demonstrations: list[str], rejected: int = 0, **columns: Any) -> list[dict[str, Any]]:
    """One contract row; columns that are None are left out."""
    row = {name: found for name, found in columns.items() if found is not None}
    row["demonstrations"] = demonstrations
    return [{**row, "rejected_demonstrations": rejected} if rejected else row]


_NAMES = {str: "text", bool: "true or false", dict: "an object", list: "a list", type(None): "null"}


def _kind(found: Any) -> str:
    return _NAMES.get(type(found), f"a number ({found})" if isinstance(found, (int, float)) else type(found).__name__)
