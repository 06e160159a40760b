"""The row contract: what a row must hold, whatever its columns are called.

    prompt           text, or a list of chat messages {"role", "content"} that does not end with the assistant's
    answer           what the verifier compares with: text or a number
    demonstrations   list of texts; may be empty or absent
    id, source       optional; the default id is FILE-ROW, the default source the file's name

`parse` gives the parts of one row, or appends what is wrong with it to a list of sentences.
"""

from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.errors import UserError

SHOWN = 5  # bad rows named in one error

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Columns:
    """What the columns are called; demonstrations None: they are not read."""

    prompt: str = "prompt"
    answer: str = "answer"
    demonstrations: str | None = "demonstrations"


@dataclass(frozen=True)
class Row:
    """One row that keeps the contract.

    Example: Row(17, None, None, "1+2", "3", ("1+2=3, so \\boxed{3}",)) is row 17 of a file without ids and sources.
    """

    number: int
    id: str | None
    source: str | None
    prompt: str | Messages
    answer: str
    demonstrations: tuple[str, ...]


def parse(number: int, row: dict[str, Any] | str, columns: Columns, bad: list[str]) -> Row | None:
    """The parts of row `number`; None, and a sentence in `bad` for each fault, when it breaks the contract."""
    if isinstance(row, str):  # a broken row, as data/files.py describes it
        bad.append(f"row {number} {row}")
        return None
    found = len(bad)
    prompt, answer = row.get(columns.prompt), row.get(columns.answer)
    _check_prompt(number, prompt, columns.prompt, bad)
    if answer is None or not str(answer).strip():
        bad.append(f"row {number} has no answer (column {columns.answer!r}; --data.label_key names another)")
    elif isinstance(answer, (list, dict, bool)):
        bad.append(f"row {number}: the answer must be text or a number, not {type(answer).__name__}")
    demonstrations = (row.get(columns.demonstrations) if columns.demonstrations else None) or []
    if not isinstance(demonstrations, list) or not all(isinstance(text, str) for text in demonstrations):
        bad.append(f"row {number}: {columns.demonstrations!r} must be a list of strings")
    if len(bad) > found:
        return None
    identifier, source = (None if row.get(name) is None else str(row[name]) for name in ("id", "source"))
    parsed = Row(number, identifier, source, prompt, str(answer), tuple(demonstrations))
    if not _is_unicode(identifier or "", source or "", prompt_text(parsed), parsed.answer, *demonstrations):
        bad.append(f"row {number} holds half a surrogate pair (a broken \\u escape), which is no Unicode text")
        return None
    return parsed


def _is_unicode(*texts: str) -> bool:
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_prompt(number: int, prompt: Any, column: str, bad: list[str]) -> None:
    if not prompt or isinstance(prompt, str) and not prompt.strip():
        bad.append(f"row {number} has no prompt (column {column!r}; --data.input_key names another)")
    elif not isinstance(prompt, str):
        if fault := fault_of_messages(prompt):
            bad.append(f"row {number}: the prompt must be text or a list of chat messages, but {fault}")
        elif prompt[-1]["role"] == "assistant":
            bad.append(f"row {number}: the prompt ends with the assistant's message: end it with the user's")


def fault_of_messages(messages: Any) -> str | None:
    """What keeps `messages` from being a list of {"role": text, "content": text}; None when it is one."""
    if not isinstance(messages, list):
        return f"it is {type(messages).__name__}"
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"message {index} is {type(message).__name__}"
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                return f"message {index} has no text under {key!r}"
    return None if messages else "it is empty"


def prompt_text(row: Row) -> str:
    """The prompt as text without a template: of messages, what each says."""
    if isinstance(row.prompt, str):
        return row.prompt
    return "\n".join(message["content"] for message in row.prompt)


def question(row: Row) -> str:
    """What is asked, to compare problems by: of messages the user's alone, without regard to spaces and case."""
    said = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    return " ".join(" ".join(message["content"] for message in said if message["role"] == "user").split()).lower()


def refuse(name: str, bad: list[str]) -> None:
    """Raises UserError with the first faults and the number of the others, if there are any."""
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{name}: {'; '.join(bad[:SHOWN])}{more}")
