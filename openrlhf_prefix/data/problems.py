"""Problems and their demonstrations as ids: read, checked and tokenised once, before any cluster resource is taken.

The prompt and each demonstration are tokenised separately and joined as ids, so that a cut in a demonstration is a cut
between the very ids that are trained: nothing is decoded and tokenised again, and nothing is cut from the left. Rows
are those of data/rows.py. One that cannot be used is refused with file, row number and reason, or, where a flag says
so, left out and counted:

    --data.long_prompts refuse | drop                      prompt + budget > data.max_len
    --prefix.long_demonstrations refuse | drop | truncate  |y*| > budget; truncate: prefixes of at most budget - 1
    --prefix.demonstration_fraction F                      only this share of the problems keeps demonstrations
    --prefix.stop_before_answer true | false               prefixes end before the final box (data/cuts.py)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from openrlhf_prefix.data import cuts
from openrlhf_prefix.data.cuts import trains_whole
from openrlhf_prefix.data.files import iterate
from openrlhf_prefix.data.rows import Columns, Row, parse, refuse
from openrlhf_prefix.errors import UserError

REFUSE, DROP = "refuse", "drop"
# What `counts` of load_problems may hold, in the words of the start-up line.
LONG_PROMPTS = "long prompts dropped"
LONG_DROPPED = "long demonstrations dropped"
LONG_TRUNCATED = "long demonstrations for prefixes only"
WITHHELD = "problems whose demonstrations are withheld"
CAPPED = "demonstrations capped before their answer"
UNUSABLE = "demonstrations that begin with their answer, unused"


@dataclass(frozen=True)
class Problem:
    """One problem as ids.

    Example: Problem("chains-17", "chains", "7", prompt_ids [.. 12], demonstrations ([.. 40], [.. 38]), (37, 35)).

    Raises:
        ValueError: limits and demonstrations differ in number.
    """

    id: str
    source: str
    answer: str
    prompt_ids: np.ndarray  # (P,) int32, chat template included
    demonstrations: tuple[np.ndarray, ...]  # each (|y*|,) int32, without a stop token; past the budget: see limits
    limits: tuple[int, ...] = ()  # the most tokens of each that a prefix may have, at most |y*| - 1; 0: never used

    def __post_init__(self) -> None:
        if len(self.limits) != len(self.demonstrations):
            raise ValueError(f"{len(self.demonstrations)} demonstrations but {len(self.limits)} limits")


def load_problems(
    names: str,
    args: SimpleNamespace,
    tokenizer: Any,
    budget: int,
    split: str,
    counts: Counter[str] | None = None,
    held_out: bool = False,
) -> list[Problem]:
    """All problems of a comma-separated list of files, folders or hub names.

    Args:
        args: nested flags; reads data.{input_key, label_key, input_template, apply_chat_template, max_samples,
            max_len, long_prompts}, prefix.{demonstrations_key, demonstration_fraction, long_demonstrations,
            stop_before_answer}, hybrid.{demonstration, sft_steps, rescue} and train.seed.
        budget: response tokens, prefix included.
        counts: is told how many prompts and demonstrations were dropped, cut or capped, and why.
        held_out: the problems are for evaluation, which shows no demonstrations: they are not read.

    Raises:
        UserError: nothing to read, rows that cannot be used, or two rows with one id.
    """
    counts = Counter() if counts is None else counts
    key = None if held_out else args.prefix.demonstrations_key
    columns = Columns(args.data.input_key, args.data.label_key, key)
    problems: list[Problem] = []
    places: dict[str, str] = {}
    for name in names.split(","):
        bad: list[str] = []
        found = [parse(number, row, columns, bad) for number, row in iterate(name, split, args.data.max_samples)]
        refuse(name, bad)
        if not found:
            raise UserError(f"{name} holds no rows: check the file and the split {split!r}")
        rows = [row for row in found if row is not None]
        check_ids(name, rows, places)
        problems += _tokenise(name, rows, args, tokenizer, budget, counts)
    if not problems:
        raise UserError(f"{names}: every prompt is too long and was dropped: raise data.max_len")
    return problems[: args.data.max_samples]  # as upstream, of each file and of all


def identifier(name: str, row: Row) -> str:
    """The id of a row: its own, or file name and row number."""
    return f"{Path(name).stem}-{row.number}" if row.id is None else row.id


def check_ids(name: str, rows: Sequence[Row], places: dict[str, str]) -> None:
    """Adds the rows to `places` (id -> where it was seen). Raises UserError at an id that is there already."""
    bad = []
    for row in rows:
        key, place = identifier(name, row), f"row {row.number} of {name}"
        if key in places:
            bad.append(f"row {row.number} has the id {key!r} of {places[key]}")
        places.setdefault(key, place)
    if bad:
        bad[-1] += ": rows of one id would share their random draws, so give each its own (or rename a file)"
    refuse(name, bad)


def _tokenise(
    name: str, rows: Sequence[Row], args: SimpleNamespace, tokenizer: Any, budget: int, counts: Counter[str]
) -> list[Problem]:
    bad: list[str] = []
    prompts = [_render(row, args, tokenizer, bad) for row in rows]
    refuse(name, bad)
    prompt_ids = _encode(tokenizer, prompts)
    kept = [_prompt_fits(row, ids, args, budget, counts, bad) for row, ids in zip(rows, prompt_ids, strict=True)]
    texts = [
        _kept_demonstrations(name, row, args, counts) if fits else () for row, fits in zip(rows, kept, strict=True)
    ]
    drawable = iter(_encode_with_limits(tokenizer, [text for group in texts for text in group], args))
    source, problems = Path(name).stem, []
    for row, ids, group, fits in zip(rows, prompt_ids, texts, kept, strict=True):
        pairs = [next(drawable) for _ in group]
        pairs = _check_demonstrations(row.number, pairs, args, budget, counts, bad)
        if fits:
            problems.append(
                Problem(
                    id=identifier(name, row),
                    source=source if row.source is None else row.source,
                    answer=row.answer,
                    prompt_ids=ids,
                    demonstrations=tuple(pair[0] for pair in pairs),
                    limits=tuple(pair[1] for pair in pairs),
                )
            )
    refuse(name, bad)
    return problems


def _render(row: Row, args: SimpleNamespace, tokenizer: Any, bad: list[str]) -> str:
    if args.data.apply_chat_template:
        messages = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if not isinstance(row.prompt, str):
        bad.append(f"row {row.number} has chat messages for a prompt: set --data.apply_chat_template")
        return ""
    return args.data.input_template.replace("{}", row.prompt) if args.data.input_template else row.prompt


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids without special tokens: the chat template has written those that belong."""
    if not texts:
        return []
    return [np.asarray(ids, dtype=np.int32) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _encode_with_limits(tokenizer: Any, texts: Sequence[str], args: SimpleNamespace) -> list[tuple[np.ndarray, int]]:
    """(ids, most tokens of a prefix) of each text."""
    encoded = _encode(tokenizer, texts)
    limits = [len(ids) - 1 for ids in encoded]
    starts = [cuts.answer_start(text) if args.prefix.stop_before_answer else None for text in texts]
    boxed = [index for index, start in enumerate(starts) if start is not None]
    for index, head in zip(boxed, _encode(tokenizer, [texts[i][: starts[i]] for i in boxed]), strict=True):
        limits[index] = min(limits[index], cuts.common_length(encoded[index], head))
    return list(zip(encoded, limits, strict=True))


def _prompt_fits(
    row: Row, ids: np.ndarray, args: SimpleNamespace, budget: int, counts: Counter[str], bad: list[str]
) -> bool:
    fits = len(ids) + budget <= args.data.max_len
    if not fits and args.data.long_prompts == DROP:
        counts[LONG_PROMPTS] += 1
    elif not fits:
        bad.append(
            f"row {row.number} has a prompt of {len(ids)} tokens: with a response of {budget} it exceeds data.max_len "
            f"{args.data.max_len} (--data.long_prompts drop leaves such rows out)"
        )
    return fits


def _kept_demonstrations(name: str, row: Row, args: SimpleNamespace, counts: Counter[str]) -> tuple[str, ...]:
    fraction = args.prefix.demonstration_fraction
    if not row.demonstrations or cuts.keeps_demonstrations(args.train.seed, identifier(name, row), fraction):
        return row.demonstrations
    counts[WITHHELD] += 1
    return ()


def _check_demonstrations(
    number: int,
    pairs: list[tuple[np.ndarray, int]],
    args: SimpleNamespace,
    budget: int,
    counts: Counter[str],
    bad: list[str],
) -> list[tuple[np.ndarray, int]]:
    """The usable ones of a row, with limits that leave a token of the budget to the policy."""
    kept = []
    room = budget - trains_whole(args)  # the token that ends it
    for index, (ids, limit) in enumerate(pairs):
        long = len(ids) > room
        if len(ids) < 2:
            bad.append(
                f"row {number}: demonstration {index} has {len(ids)} tokens; a prefix needs 2 or more, so "
                "give a worked demonstration or none"
            )
        elif long and args.prefix.long_demonstrations == REFUSE:
            bad.append(
                f"row {number}: demonstration {index} has {len(ids)} tokens, more than a response may have "
                f"({room}): raise rollout.max_new_tokens (and data.max_len), or set --prefix.long_demonstrations "
                "drop or truncate"
            )
        elif long and args.prefix.long_demonstrations == DROP:
            counts[LONG_DROPPED] += 1
        else:
            counts[LONG_TRUNCATED] += long
            counts[CAPPED] += 0 < limit < len(ids) - 1
            counts[UNUSABLE] += limit == 0
            kept.append((ids, min(limit, budget - 1)))
    return kept


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
