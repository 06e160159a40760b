"""The `data check` verb: what is wrong with a set of problems, before a run finds out.

Errors are what a run refuses or cannot learn from: rows that break the contract, ids used twice, golds that the
verifier cannot read, rows above the context, training problems that are in the evaluation set. Warnings are what a
person should look at: problems without demonstrations, demonstrations that the verifier rejects, repeated problems.
Every one is named with its file and row; with an error the exit code is 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from openrlhf_prefix.algorithm.sampler import stable_bits
from openrlhf_prefix.data import cuts
from openrlhf_prefix.data.files import count, iterate
from openrlhf_prefix.data.problems import check_ids
from openrlhf_prefix.data.rows import Columns, Row, parse, prompt_text, question
from openrlhf_prefix.data.samples import SAMPLES, cut_lines
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward import MathVerifier

CHUNK = 64  # rows that are verified at once
# A number no gold is likely to be: compared with it, a gold that can be read is "different" (or "equal"), and one that
# cannot is "unparseable".
PROBE = r"\boxed{123456789}"
PERCENTILES = (50, 90, 99, 100)

BROKEN, IDS, GOLDS, LONG, LEAKED = "breaks the contract", "id used twice", "unreadable gold", "too long", "leaked"
BARE, REJECTED, REPEATED, DOUBLED = "no demonstration", "rejected demonstration", "repeated problem", "doubled <think>"
ERRORS, WARNINGS = (BROKEN, IDS, GOLDS, LONG, LEAKED), (BARE, REJECTED, REPEATED, DOUBLED)


@dataclass(frozen=True)
class Settings:
    """What a check looks at; tokenizer and verifier may be None: then lengths are characters, answers unread."""

    columns: Columns = Columns()
    split: str = "train"
    tokenizer: Any = None
    chat: bool = True
    template: str | None = None  # text around a prompt, for {}, where there is no chat template
    verifier: MathVerifier | None = None
    max_len: int | None = None
    budget: int | None = None
    progress: bool = False


@dataclass
class Survey:
    """What was found in one file."""

    name: str
    rows: int = 0
    demonstrations: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in ERRORS + WARNINGS})
    prompt_lengths: list[int] = field(default_factory=list)
    demonstration_lengths: list[int] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=lambda: {BROKEN, IDS, REPEATED})
    questions: dict[bytes, int] = field(default_factory=dict)  # digest -> row
    examples: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, sentence: str) -> None:
        self.findings[kind].append(f"{self.name}: row {number} {sentence}")

    @property
    def errors(self) -> int:
        return sum(len(self.findings[kind]) for kind in ERRORS)


def survey(name: str, settings: Settings, evaluation: Survey | None = None) -> Survey:
    """Reads every row of one file; `evaluation`: the survey whose problems must not be in this one."""
    found = Survey(name)
    conditions = {
        GOLDS: settings.verifier,
        REJECTED: settings.verifier and settings.columns.demonstrations,
        LEAKED: evaluation,
        LONG: settings.max_len,
        BARE: settings.columns.demonstrations,
        DOUBLED: settings.tokenizer and settings.chat and settings.columns.demonstrations,
    }
    found.looked_at |= {kind for kind, holds in conditions.items() if holds}
    places: dict[str, str] = {}
    rows = iterate(name, settings.split)
    for chunk in _chunks(tqdm(rows, total=count(name), unit=" rows", disable=not settings.progress)):
        good = []
        for number, raw in chunk:
            found.rows += 1
            bad: list[str] = []
            row = parse(number, raw, settings.columns, bad)
            found.findings[BROKEN] += [f"{name}: {sentence}" for sentence in bad]
            if row is not None:
                good.append(row)
        for row in good:
            try:
                check_ids(name, [row], places)
            except UserError as error:
                found.findings[IDS].append(str(error))
            _compare(found, row, evaluation)
            _measure(found, row, settings)
        if settings.verifier is not None:
            _verify(found, good, settings.verifier)
    if not found.rows:
        raise UserError(f"{name} holds no rows: check the file and the split {settings.split!r}")
    return found


def _chunks(rows: Any) -> Iterator[list]:
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _compare(found: Survey, row: Row, evaluation: Survey | None) -> None:
    """Repetitions inside the file, and problems of the evaluation set."""
    digest = stable_bits(question(row))[:16]
    if digest in found.questions:
        found.add(REPEATED, row.number, f"asks what row {found.questions[digest]} asks")
    found.questions.setdefault(digest, row.number)
    if evaluation is not None and digest in evaluation.questions:
        found.add(LEAKED, row.number, f"asks what row {evaluation.questions[digest]} of {evaluation.name} asks")


def _measure(found: Survey, row: Row, settings: Settings) -> None:
    """Lengths against the context, and the examples."""
    prompt = _rendered(row, settings)
    size = _length(prompt, settings)
    found.prompt_lengths.append(size)
    found.demonstrations += len(row.demonstrations)
    if settings.columns.demonstrations and not row.demonstrations:
        found.add(BARE, row.number, "has no demonstration: plain rollouts only")
    if settings.max_len and size + settings.budget > settings.max_len:
        found.add(
            LONG, row.number, f"has a prompt of {size} tokens: with {settings.budget} more it exceeds the context"
        )
    for index, text in enumerate(row.demonstrations):
        size = _length(text, settings)
        found.demonstration_lengths.append(size)
        if settings.budget and size > settings.budget:
            found.add(LONG, row.number, f"has a demonstration ({index}) of {size} tokens, above {settings.budget}")
        if prompt.rstrip().endswith("<think>") and text.lstrip().startswith("<think>"):
            found.add(DOUBLED, row.number, f"opens demonstration {index} with <think>, as the chat template does")
    if row.demonstrations and len(found.examples) < SAMPLES:
        found.examples.append("\n".join(_example(row, prompt, settings)))


def _rendered(row: Row, settings: Settings) -> str:
    if settings.tokenizer is None or not settings.chat:
        return settings.template.replace("{}", prompt_text(row)) if settings.template else prompt_text(row)
    messages = [{"role": "user", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    return settings.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _length(text: str, settings: Settings) -> int:
    return len(text) if settings.tokenizer is None else len(_ids(text, settings))


def _ids(text: str, settings: Settings) -> list[int]:
    return settings.tokenizer([text], add_special_tokens=False)["input_ids"][0]


def _example(row: Row, prompt: str, settings: Settings) -> list[str]:
    text = row.demonstrations[0]
    start = cuts.answer_start(text)
    prefix, left = (text, "") if start is None else (text[:start], text[start:])
    if settings.tokenizer is not None and start is not None:
        ids = _ids(text, settings)
        limit = cuts.common_length(ids, _ids(prefix, settings))
        prefix, left = settings.tokenizer.decode(ids[:limit]), settings.tokenizer.decode(ids[limit:])
    return [f"row {row.number}, answer {row.answer}", *cut_lines(prompt, prefix, left)]


def _verify(found: Survey, rows: Sequence[Row], verifier: MathVerifier) -> None:
    for row, score in zip(rows, verifier.score([PROBE] * len(rows), [row.answer for row in rows]), strict=True):
        if score.reason not in ("different", "equal"):
            found.add(
                GOLDS, row.number, f"has a gold that the verifier cannot read ({score.reason}): {row.answer[:80]!r}"
            )
    pairs = [(row, index, text) for row in rows for index, text in enumerate(row.demonstrations)]
    scores = verifier.score([text for *_, text in pairs], [row.answer for row, *_ in pairs])
    for (row, index, _), score in zip(pairs, scores, strict=True):
        if not score.value:
            found.add(REJECTED, row.number, f"has a demonstration ({index}) that the verifier rejects: {score.reason}")


def table(surveys: Sequence[Survey], settings: Settings) -> str:
    """One column a file: rows, findings, and percentiles of the lengths."""
    unit = "characters" if settings.tokenizer is None else "tokens"
    lines = [["", *(Path(found.name).name for found in surveys)]]
    lines += [["rows", *(str(found.rows) for found in surveys)]]
    lines += [["demonstrations", *(str(found.demonstrations) for found in surveys)]]
    for kinds, word in ((ERRORS, "error"), (WARNINGS, "warning")):
        lines += [[f"{word}: {kind}", *(_number(found, kind) for found in surveys)] for kind in kinds]
    lines += [[f"prompt {unit}, {_NAMES}", *(_percentiles(found.prompt_lengths) for found in surveys)]]
    lines += [[f"demonstration {unit}, {_NAMES}", *(_percentiles(found.demonstration_lengths) for found in surveys)]]
    if settings.max_len:
        lines += [
            [
                "context: prompt / response",
                *([f"{settings.max_len - settings.budget} / {settings.budget}"] * len(surveys)),
            ]
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


_NAMES = " / ".join("max" if percentile == 100 else f"p{percentile}" for percentile in PERCENTILES)


def _number(found: Survey, kind: str) -> str:
    """How many findings; a dash for what was not looked at."""
    return str(len(found.findings[kind])) if kind in found.looked_at else "-"


def _percentiles(lengths: Sequence[int]) -> str:
    if not lengths:
        return "-"
    return " / ".join(str(value) for value in np.percentile(lengths, PERCENTILES, method="higher"))
