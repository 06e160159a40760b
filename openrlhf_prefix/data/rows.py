"""The row contract: what a row must hold, whatever its columns are called.

    prompt           text, or a list of chat messages {"role", "content"} that does not end with the assistant's
    answer           what the verifier compares with: text or a number, also as the only element of a list
    demonstrations   list of texts, or one text; may be empty or absent
    id, source       optional; the default id is FILE-ROW, the default source the file's name
    pass_rate        optional; share of a policy's samples that were right, in [0, 1]

A column's name may have dots: reward_model.ground_truth is the ground_truth of an object. `parse` gives the parts of
one row, or appends what is wrong with it to a list of sentences.
"""

import json
from dataclasses import dataclass
from typing import Any

from openrlhf_prefix.data.messages import Messages, images_of, read_messages
from openrlhf_prefix.reward.gold import gold_text

PASS_RATE = "pass_rate"


@dataclass(frozen=True)
class Columns:
    """What the columns are called; an empty answer, or demonstrations None: they are not read."""

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
    pass_rate: float | None = None


def lookup(row: dict[str, Any], name: str) -> Any:
    """What stands in a column, or under a dotted name; None where there is no such thing."""
    if name in row:
        return row[name]
    found: Any = row
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def unwrap(gold: Any) -> Any:
    """The only element of a list of golds, which may be written as text: ["7"], '["7"]'. Anything else as it is."""
    if isinstance(gold, str) and gold.strip().startswith('["'):
        try:
            gold = json.loads(gold)
        except ValueError:
            return gold
    return gold[0] if isinstance(gold, list) and len(gold) == 1 else gold


def parse(number: int, row: dict[str, Any] | str, columns: Columns, bad: list[str]) -> Row | None:
    """The parts of row `number`; None, and a sentence in `bad` for each fault, when it breaks the contract."""
    if isinstance(row, str):  # a broken row, as data/files.py describes it
        bad.append(f"row {number} {row}")
        return None
    found = len(bad)
    prompt = _prompt(number, row, columns.prompt, bad)
    answer = _answer(number, row, columns.answer, bad) if columns.answer else ""
    demonstrations = _demonstrations(number, row, columns.demonstrations, bad) if columns.demonstrations else ()
    rate = _pass_rate(number, row, bad)
    if len(bad) > found:
        return None
    identifier, source = (None if row.get(name) is None else str(row[name]) for name in ("id", "source"))
    parsed = Row(number, identifier, source, prompt, answer, demonstrations, rate)
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


def _prompt(number: int, row: dict[str, Any], column: str, bad: list[str]) -> str | Messages:
    prompt = lookup(row, column)
    if images := images_of(row):
        bad.append(f"row {number} has images (column {images!r}), and prefixes are of text alone: leave such rows out")
    if not prompt or isinstance(prompt, str) and not prompt.strip():
        bad.append(f"row {number} has no prompt (column {column!r}; --data.input_key names another)")
    elif not isinstance(prompt, str):
        try:
            prompt = read_messages(prompt)
        except ValueError as fault:
            bad.append(f"row {number}: the prompt must be text or a list of chat messages, but {fault}")
            return []
        if prompt[-1]["role"] == "assistant":
            bad.append(f"row {number}: the prompt ends with the assistant's message: end it with the user's")
    return prompt


def _answer(number: int, row: dict[str, Any], column: str, bad: list[str]) -> str:
    answer = unwrap(lookup(row, column))
    if answer is None or not str(answer).strip():
        bad.append(f"row {number} has no answer (column {column!r}; --data.label_key names another)")
    elif isinstance(answer, (list, dict, bool)):
        what = type(answer).__name__
        if isinstance(answer, list) and len(answer) > 1:
            what = f"{len(answer)} answers"
        bad.append(f"row {number}: the answer must be text or a number, not {what}")
    else:
        try:
            return gold_text(answer)
        except ValueError as fault:
            bad.append(f"row {number}: the answer must be {fault}")
    return str(answer)


def _demonstrations(number: int, row: dict[str, Any], column: str, bad: list[str]) -> tuple[str, ...]:
    found = lookup(row, column)
    if isinstance(found, str):  # a column of one text, such as `solution`; of a table, where nothing is an empty text
        found = [found] if found.strip() else []
    found = found or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        bad.append(f"row {number}: {column!r} must be a list of strings, or one string")
        return ()
    for index, text in enumerate(found):
        if not text.strip():
            bad.append(f"row {number}: demonstration {index} is empty: give a worked demonstration or none")
    return tuple(found)


def _pass_rate(number: int, row: dict[str, Any], bad: list[str]) -> float | None:
    rate = row.get(PASS_RATE)
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        bad.append(f"row {number}: {PASS_RATE!r} must be a share of right samples in [0, 1], not {rate!r}")
        return None
    return float(rate)


def prompt_text(row: Row) -> str:
    """The prompt as text without a template: of messages, what each says."""
    if isinstance(row.prompt, str):
        return row.prompt
    return "\n".join(message["content"] for message in row.prompt)


def question(row: Row) -> str:
    """What is asked, to compare problems by: of messages the user's alone, without regard to spaces and case."""
    said = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    return " ".join(" ".join(message["content"] for message in said if message["role"] == "user").split()).lower()
