"""Problems and their demonstrations as ids: read, checked and tokenised once, before any cluster resource is taken.

The prompt and each demonstration are tokenised separately and joined as ids, so that a cut in a demonstration is a cut
between the very ids that are trained: nothing is decoded and tokenised again, and nothing is cut from the left. Rows
are those of data/rows.py. One that cannot be used is refused with file, row number and reason, or, where a flag says
so, left out and counted:

    --data.long_prompts refuse | drop                      prompt + budget > data.max_len
    --prefix.long_demonstrations refuse | drop | truncate  |y*| > budget; truncate: prefixes of at most budget - 1
    --prefix.demonstration_fraction F                      only this share of the problems keeps demonstrations
    --prefix.stop_before_answer true | false               prefixes end before their answer (data/cuts.py)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from openrlhf_prefix.data import cuts, formats
from openrlhf_prefix.data.cuts import trains_whole
from openrlhf_prefix.data.faults import refuse
from openrlhf_prefix.data.files import iterate, names_of
from openrlhf_prefix.data.prompts import Prompts, doubled_thought
from openrlhf_prefix.data.rows import Columns, Row, parse
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward import MathVerifier

REFUSE, DROP = "refuse", "drop"
# What `counts` of load_problems may hold, in the words of the start-up line.
LONG_PROMPTS = "long prompts dropped"
LONG_DROPPED = "long demonstrations dropped"
LONG_TRUNCATED = "long demonstrations for prefixes only"
WITHHELD = "problems whose demonstrations are withheld"
CAPPED = "demonstrations capped before their answer"
UNUSABLE = "demonstrations that begin with their answer, unused"
DOUBLED = "demonstrations that open <think> once more than the prompt"
Found = tuple[np.ndarray, int, np.ndarray | None]  # a demonstration, its limit, and the prompt that shows it


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
    pass_rate: float | None = None  # of a policy before the run, a prior of difficulty; None: unknown
    shown: tuple[np.ndarray, ...] = ()  # the prompt around each of them, int32, where a teacher is to see that

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
    answered: bool = True,
) -> list[Problem]:
    """All problems of a comma-separated list of files, folders or hub names.

    Args:
        args: nested flags; reads data.{input_key, label_key, input_template, apply_chat_template, max_samples,
            max_len, long_prompts}, prefix.{demonstrations_key, demonstration_fraction, long_demonstrations,
            stop_before_answer}, hybrid.{demonstration, sft_steps, rescue}, teacher.{context, template},
            verifier.* and train.seed.
        budget: response tokens, prefix included.
        counts: is told how many prompts and demonstrations were dropped, cut or capped, and why.
        held_out: the problems are for evaluation, which shows no demonstrations: they are not read.
        answered: rows have answers; False: nobody asks for them, and they are not read.

    Raises:
        UserError: nothing to read, rows that cannot be used, or two rows with one id.
    """
    key = None if held_out else args.prefix.demonstrations_key
    unread = held_out or not answered or not args.prefix.stop_before_answer
    verifier = None if unread else MathVerifier(**vars(args.verifier))
    reader = _Reader(args, tokenizer, budget, Counter() if counts is None else counts, verifier)
    columns = Columns(args.data.input_key, args.data.label_key if answered else "", key)
    problems: list[Problem] = []
    places: dict[str, str] = {}
    try:
        for name in names_of(names):
            rows = read_rows(name, split, args.data.max_samples, columns)
            check_ids(name, rows, places)
            problems += reader.tokenise(name, rows)
    finally:
        if verifier is not None:
            verifier.close()
    if not problems:
        raise UserError(f"{names}: every prompt is too long and was dropped: raise data.max_len")
    return problems[: args.data.max_samples]  # as upstream, of each file and of all


def read_rows(name: str, split: str, limit: int, columns: Columns) -> list[Row]:
    """The rows of one file, all of which keep the contract."""
    bad: list[str] = []
    rows, hint, found = [], "", 0
    for number, raw in iterate(name, split, limit):
        found += 1
        row = parse(number, raw, columns, bad)
        if row is not None:
            rows.append(row)
        elif len(bad) == 1 and isinstance(raw, dict):
            hint = formats.hint(raw, name, tuple(filter(None, (columns.prompt, columns.answer))))
    refuse(name, bad, hint)
    if not found:
        raise UserError(f"{name} holds no rows: check the file and the split {split!r}")
    return rows


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
    refuse(name, bad, "Rows of one id would share their random draws, so give each its own (or rename a file)")


@dataclass(frozen=True)
class _Reader:
    """Rows to problems, with the flags of a run."""

    args: SimpleNamespace
    tokenizer: Any
    budget: int
    counts: Counter[str]
    verifier: MathVerifier | None  # None: prefixes may reach the answer

    def tokenise(self, name: str, rows: Sequence[Row]) -> list[Problem]:
        """The problems of one file. Raises UserError with everything that is wrong with them."""
        bad: list[str] = []
        prompts = Prompts(self.tokenizer, self.args.data.apply_chat_template, self.args.data.input_template)
        rendered = [prompts.text(row, bad) or "" for row in rows]
        refuse(name, bad)
        prompt_ids = prompts.ids(rendered)
        kept = [self._fits(row, ids, bad) for row, ids in zip(rows, prompt_ids, strict=True)]
        texts = [self._demonstrations(name, row) if fits else () for row, fits in zip(rows, kept, strict=True)]
        for prompt, group in zip(rendered, texts, strict=True):
            self.counts[DOUBLED] += sum(doubled_thought(prompt, text) for text in group)
        shown = iter(self._shown(name, rows, texts, prompts))
        golds = [row.answer for row, group in zip(rows, texts, strict=True) for _ in group]
        flat = [text for group in texts for text in group]
        drawable = iter(cuts.encode_with_limits(self.tokenizer, flat, golds, self.verifier))
        source, problems = Path(name).stem, []
        for row, ids, group, fits in zip(rows, prompt_ids, texts, kept, strict=True):
            found = self._usable(row.number, [(*next(drawable), next(shown)) for _ in group], bad)
            if fits:
                problems.append(
                    Problem(
                        id=identifier(name, row),
                        source=source if row.source is None else row.source,
                        answer=row.answer,
                        prompt_ids=ids,
                        demonstrations=tuple(ids for ids, _, _ in found),
                        limits=tuple(limit for _, limit, _ in found),
                        pass_rate=row.pass_rate,
                        shown=tuple(context for _, _, context in found if context is not None),
                    )
                )
        refuse(name, bad)
        return problems

    def _fits(self, row: Row, ids: np.ndarray, bad: list[str]) -> bool:
        limit = self.args.data.max_len
        fits = len(ids) + self.budget <= limit
        if not fits and self.args.data.long_prompts == DROP:
            self.counts[LONG_PROMPTS] += 1
        elif not fits:
            bad.append(
                f"row {row.number} has a prompt of {len(ids)} tokens: with a response of {self.budget} it exceeds "
                f"data.max_len {limit} (--data.long_prompts drop leaves such rows out)"
            )
        return fits

    def _demonstrations(self, name: str, row: Row) -> tuple[str, ...]:
        """Those of the row, if it is among the share of problems that keep theirs."""
        fraction = self.args.prefix.demonstration_fraction
        if not row.demonstrations or cuts.keeps_demonstrations(self.args.train.seed, identifier(name, row), fraction):
            return row.demonstrations
        self.counts[WITHHELD] += 1
        return ()

    def _shown(
        self, name: str, rows: Sequence[Row], texts: Sequence[tuple[str, ...]], prompts: Prompts
    ) -> list[np.ndarray | None]:
        """For every demonstration of every row the prompt that shows it; None where no teacher asks for that."""
        flags = self.args.teacher
        bad: list[str] = []
        if flags.context != "demonstration":
            return [None] * sum(map(len, texts))
        pairs = zip(rows, texts, strict=True)
        around = [prompts.showing(row, text, flags.template, bad) or "" for row, group in pairs for text in group]
        refuse(name, bad)
        return list(prompts.ids(around))

    def _usable(self, number: int, found: list[Found], bad: list[str]) -> list[Found]:
        """The usable ones of a row, with limits that leave a token of the budget to the policy."""
        kept, flag = [], self.args.prefix.long_demonstrations
        room = self.budget - trains_whole(self.args)  # the token that ends it
        for index, (ids, limit, context) in enumerate(found):
            long = len(ids) > room
            if len(ids) < 2:
                bad.append(too_short(number, index, len(ids)))
            elif long and flag == REFUSE:
                bad.append(
                    f"row {number}: demonstration {index} has {len(ids)} tokens, more than a response may have "
                    f"({room}): raise rollout.max_new_tokens (and data.max_len), or set --prefix.long_demonstrations "
                    "drop or truncate"
                )
            elif long and flag == DROP:
                self.counts[LONG_DROPPED] += 1
            else:
                self.counts[LONG_TRUNCATED] += long
                self.counts[CAPPED] += 0 < limit < len(ids) - 1
                self.counts[UNUSABLE] += limit == 0
                kept.append((ids, min(limit, self.budget - 1), context))
        return kept


def too_short(number: int, index: int, tokens: int) -> str:
    """The sentence about a demonstration without a token for the prefix and one for the policy."""
    return (
        f"row {number}: demonstration {index} has {tokens} tokens; a prefix needs 2 or more, so give a worked "
        "demonstration or none"
    )


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
