"""Problems and their demonstrations: the row contract, read, checked and tokenised once.

    prompt           string, or a list of chat messages
    answer           string that the verifier compares with
    demonstrations   list of strings, may be empty
    id, source       optional; the default id is the row number, the default source the file's name

The prompt and each demonstration are tokenised separately and joined as ids, so that a cut in a demonstration is a cut
between the very ids that are trained: nothing is decoded and tokenised again. A row that cannot be used is refused
with file, row number (from 1) and reason before any cluster resource is taken.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from openrlhf_prefix.errors import UserError

SHOWN = 5  # bad rows named in one error


@dataclass(frozen=True)
class Problem:
    """One problem as ids.

    Example: Problem("chains-17", "chains", "7", prompt_ids [.. 12], demonstrations ([.. 40], [.. 38])).
    """

    id: str
    source: str
    answer: str
    prompt_ids: np.ndarray  # (P,) int32, chat template included
    demonstrations: tuple[np.ndarray, ...]  # each (|y*|,) int32, without a stop token


def load_problems(names: str, args: SimpleNamespace, tokenizer: Any, budget: int, split: str) -> list[Problem]:
    """All problems of a comma-separated list of files, folders or hub names.

    Args:
        args: nested flags; reads data.{input_key, label_key, input_template, apply_chat_template, max_samples,
            max_len} and prefix.demonstrations_key.
        budget: response tokens, which must hold every demonstration.

    Raises:
        UserError: nothing to read, or rows that cannot be used.
    """
    problems: list[Problem] = []
    for name in names.split(","):
        rows = list(_read(name, split, args.data.max_samples))
        if not rows:
            raise UserError(f"{name} holds no rows: check the file and the split {split!r}")
        problems += _tokenise(name, rows, args, tokenizer, budget)
    return problems


def _read(name: str, split: str, limit: int) -> Iterator[dict[str, Any]]:
    """Rows of one dataset, as dictionaries: JSON lines by ourselves, for the row number of a broken one."""
    if Path(name).suffix.lower() == ".jsonl":
        yield from itertools.islice(_read_lines(Path(name)), limit)
        return
    from datasets import Dataset, disable_progress_bars, load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()  # they would stand between the lines that a person reads
    suffix = Path(name).suffix.lower().lstrip(".")
    try:
        if suffix in ("json", "csv", "parquet", "arrow"):
            data = load_dataset(suffix, data_files=name)
        elif (Path(name) / "dataset_info.json").exists() or (Path(name) / "dataset_dict.json").exists():
            data = load_from_disk(name)
        else:
            data = load_dataset(name)
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        raise UserError(f"{name} cannot be read: {' '.join(str(cause).split())[:300]}") from None
    if not isinstance(data, Dataset):
        data = data[split] if split in data else next(iter(data.values()))
    yield from data.select(range(min(limit, len(data))))


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # broken JSON, and bytes that are not UTF-8
                raise UserError(f"{path}: row {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}: row {number} is not an object with a prompt and an answer")
            yield row


def _tokenise(name: str, rows: Sequence[dict], args: SimpleNamespace, tokenizer: Any, budget: int) -> list[Problem]:
    bad: list[str] = []
    prompts = [_prompt_text(row, number, args, tokenizer, bad) for number, row in enumerate(rows, 1)]
    answers = [_answer(row, number, args, bad) for number, row in enumerate(rows, 1)]
    texts = [_demonstrations(row, number, args, bad) for number, row in enumerate(rows, 1)]
    _refuse(name, bad)
    prompt_ids = _encode(tokenizer, prompts)
    flat = iter(_encode(tokenizer, [text for group in texts for text in group]))
    demonstrations = [tuple(next(flat) for _ in group) for group in texts]
    for number, (prompt, group) in enumerate(zip(prompt_ids, demonstrations, strict=True), 1):
        _check_lengths(number, prompt, group, args.data.max_len, budget, bad)
    _refuse(name, bad)
    source = Path(name).stem
    return [
        Problem(
            id=f"{source}-{number}" if row.get("id") is None else str(row["id"]),
            source=source if row.get("source") is None else str(row["source"]),
            answer=answer,
            prompt_ids=prompt,
            demonstrations=group,
        )
        for number, (row, answer, prompt, group) in enumerate(
            zip(rows, answers, prompt_ids, demonstrations, strict=True), 1
        )
    ]


def _prompt_text(row: dict, number: int, args: SimpleNamespace, tokenizer: Any, bad: list[str]) -> str:
    prompt = row.get(args.data.input_key)
    if not prompt:
        bad.append(f"row {number} has no prompt (column {args.data.input_key!r}; --data.input_key names another)")
        return ""
    if args.data.apply_chat_template:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not isinstance(prompt, str):
        bad.append(f"row {number} has chat messages for a prompt: set --data.apply_chat_template")
        return ""
    return args.data.input_template.replace("{}", prompt) if args.data.input_template else prompt


def _answer(row: dict, number: int, args: SimpleNamespace, bad: list[str]) -> str:
    answer = row.get(args.data.label_key)
    if answer is None or not str(answer).strip():
        bad.append(f"row {number} has no answer (column {args.data.label_key!r}; --data.label_key names another)")
    return str(answer)


def _demonstrations(row: dict, number: int, args: SimpleNamespace, bad: list[str]) -> list[str]:
    found = row.get(args.prefix.demonstrations_key) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        bad.append(f"row {number}: {args.prefix.demonstrations_key!r} must be a list of strings")
        return []
    return found


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids without special tokens: the chat template has written those that belong."""
    if not texts:
        return []
    return [np.asarray(ids, dtype=np.int32) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _check_lengths(
    number: int, prompt: np.ndarray, group: Iterable[np.ndarray], max_len: int, budget: int, bad: list[str]
) -> None:
    if len(prompt) + budget > max_len:
        bad.append(
            f"row {number} has a prompt of {len(prompt)} tokens: with a response of {budget} it exceeds data.max_len "
            f"{max_len}"
        )
    for index, demonstration in enumerate(group):
        if len(demonstration) < 2:
            bad.append(
                f"row {number}: demonstration {index} has {len(demonstration)} tokens; a prefix needs 2 or more, so "
                "give a worked demonstration or none"
            )
        elif len(demonstration) > budget:
            bad.append(
                f"row {number}: demonstration {index} has {len(demonstration)} tokens, more than a response may have "
                f"({budget}): raise rollout.max_new_tokens (and data.max_len), or drop it"
            )


def _refuse(name: str, bad: list[str]) -> None:
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{name}: {'; '.join(bad[:SHOWN])}{more}")


def response_budget(args: SimpleNamespace) -> int:
    """Tokens that a response may have, prefix included: rollout.max_new_tokens.

    Raises:
        UserError: it is not set. OpenRLHF would take what each prompt leaves of the context, so that rows of one
            batch had different budgets and the constant divisor no meaning.
    """
    budget = args.rollout.max_new_tokens
    if not budget or budget < 2:
        raise UserError("rollout.max_new_tokens must be set to 2 or more: a prefix counts as part of the response")
    return budget
