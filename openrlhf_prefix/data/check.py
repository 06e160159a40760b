"""The `data check` verb: what is wrong with a set of problems, before a run finds out.

Errors are what a run refuses or cannot learn from: rows that break the contract, or that the chat template refuses,
ids used twice, golds that the verifier cannot read, rows above the context, training problems that are in the
evaluation set. Warnings are what a person should look at: problems without demonstrations, demonstrations that the
verifier rejects, repeated problems. Every one is named with its file and row; with an error the exit code is 1.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tqdm import tqdm

from openrlhf_prefix.algorithm.sampler import stable_bits
from openrlhf_prefix.data import cuts, formats
from openrlhf_prefix.data.answers import answer_start
from openrlhf_prefix.data.files import count, iterate
from openrlhf_prefix.data.findings import BARE, BROKEN, DOUBLED, GOLDS, IDS, LEAKED, LONG, REJECTED, REPEATED, Survey
from openrlhf_prefix.data.problems import check_ids, too_short
from openrlhf_prefix.data.prompts import Prompts, doubled_thought, encode
from openrlhf_prefix.data.rows import Columns, Row, lookup, parse, question
from openrlhf_prefix.data.samples import SAMPLES, cut_lines
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.reward import MathVerifier
from openrlhf_prefix.reward.answer import FALLBACKS

CHUNK = 64  # rows that are verified at once
TRIED = 64  # rejected demonstrations that other fallbacks are tried on
# A number no gold is likely to be: compared with it, a gold that can be read is "different" (or "equal"), and one that
# cannot is "unparseable".
PROBE = r"\boxed{123456789}"


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
    held_out: bool = False  # demonstrations are looked at, but no run reads them: nothing about them is an error
    progress: bool = False

    @cached_property
    def prompts(self) -> Prompts:
        return Prompts(self.tokenizer, self.chat, self.template)


def survey(name: str, settings: Settings, evaluation: Survey | None = None) -> Survey:
    """Reads every row of one file; `evaluation`: the survey whose problems must not be in this one."""
    found = Survey(name)
    trained = settings.columns.demonstrations and not settings.held_out
    conditions = {
        GOLDS: settings.verifier,
        REJECTED: settings.verifier and settings.columns.demonstrations,
        LEAKED: evaluation,
        LONG: settings.max_len,
        BARE: trained,
        DOUBLED: settings.tokenizer and settings.chat and trained,
    }
    found.looked_at |= {kind for kind, holds in conditions.items() if holds}
    places: dict[str, str] = {}
    judged = _Judged()
    rows = iterate(name, settings.split)
    for chunk in _chunks(tqdm(rows, total=count(name), unit=" rows", disable=not settings.progress)):
        good = []
        for number, raw in chunk:
            found.rows += 1
            row = _parsed(found, number, raw, settings)
            if row is not None:
                good.append(row)
        for row in good:
            bad: list[str] = []
            try:
                check_ids(name, [row], places)
            except UserError as error:
                found.findings[IDS].append(str(error))
            _compare(found, row, evaluation)
            _measure(found, row, settings, bad)
            found.findings[BROKEN] += [f"{name}: {sentence}" for sentence in bad]
        if settings.verifier is not None:
            _verify(found, good, settings.verifier, judged)
    if not found.rows:
        raise UserError(f"{name} holds no rows: check the file and the split {settings.split!r}")
    if settings.verifier is not None and judged.rejected and not judged.accepted:
        found.advice.append(_mend(judged, settings.verifier))
    if warning := settings.prompts.warning():
        found.advice.append(warning)
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


def _parsed(found: Survey, number: int, raw: Any, settings: Settings) -> Row | None:
    """The row if it keeps the contract. What no reader of a run would know is answered with the layout it may have."""
    bad: list[str] = []
    columns = replace(settings.columns, demonstrations=None) if settings.held_out else settings.columns
    row = parse(number, raw, columns, bad)
    if bad and isinstance(raw, dict) and not found.advice:
        hint = formats.hint(raw, found.name, (columns.prompt, columns.answer))
        found.advice += [hint] if hint else []
    found.findings[BROKEN] += [f"{found.name}: {sentence}" for sentence in bad]
    if row is None or not settings.held_out or not settings.columns.demonstrations:
        return row
    shown = lookup(raw, settings.columns.demonstrations)
    texts = [shown] if isinstance(shown, str) else shown if isinstance(shown, list) else []
    return replace(row, demonstrations=tuple(text for text in texts if isinstance(text, str) and text.strip()))


def _compare(found: Survey, row: Row, evaluation: Survey | None) -> None:
    """Repetitions inside the file, and problems of the evaluation set."""
    digest = stable_bits(question(row))[:16]
    if digest in found.questions:
        found.add(REPEATED, row.number, f"asks what row {found.questions[digest]} asks")
    found.questions.setdefault(digest, row.number)
    if evaluation is not None and digest in evaluation.questions:
        found.add(LEAKED, row.number, f"asks what row {evaluation.questions[digest]} of {evaluation.name} asks")


def _measure(found: Survey, row: Row, settings: Settings, bad: list[str]) -> None:
    """Lengths against the context, and the examples."""
    prompt = settings.prompts.text(row, bad)
    found.demonstrations += len(row.demonstrations)
    if settings.columns.demonstrations and not row.demonstrations and not settings.held_out:
        found.add(BARE, row.number, "has no demonstration: plain rollouts only")
    if prompt is None:
        return
    size = settings.prompts.length(prompt)
    found.prompt_lengths.append(size)
    budget = settings.budget or 0
    if settings.max_len and size + budget > settings.max_len:
        found.add(LONG, row.number, f"has a prompt of {size} tokens: with {budget} more it exceeds the context")
    for index, text in enumerate(row.demonstrations):
        size = len(text) if settings.tokenizer is None else len(encode(settings.tokenizer, [text])[0])
        found.demonstration_lengths.append(size)
        if settings.held_out:
            continue
        if settings.tokenizer is not None and size < 2:
            bad.append(too_short(row.number, index, size))
        if settings.budget and size > settings.budget:
            found.add(LONG, row.number, f"has a demonstration ({index}) of {size} tokens, above {settings.budget}")
        if doubled_thought(prompt, text):
            found.add(DOUBLED, row.number, f"opens demonstration {index} with <think>, as the chat template does")
    if row.demonstrations and len(found.examples) < SAMPLES:
        found.examples.append("\n".join(_example(row, prompt, settings)))


def _example(row: Row, prompt: str, settings: Settings) -> list[str]:
    text, tokenizer = row.demonstrations[0], settings.tokenizer
    start = answer_start(text, row.answer, settings.verifier, cuts.token_ends(tokenizer, text))
    prefix, left = (text, "") if start is None else (text[:start], text[start:])
    if tokenizer is not None and start is not None:
        ids, head = encode(tokenizer, [text, prefix])
        limit = cuts.common_length(ids, head)
        prefix, left = (tokenizer.decode(part.tolist()) for part in (ids[:limit], ids[limit:]))
    return [f"row {row.number}, answer {row.answer}", *cut_lines(prompt, prefix, left)]


class _Judged:
    """How the demonstrations of a file did."""

    def __init__(self) -> None:
        self.accepted, self.rejected = 0, 0
        self.reasons: Counter[str] = Counter()
        self.pairs: list[tuple[str, str]] = []  # the first TRIED rejected ones, with their golds


def _verify(found: Survey, rows: Sequence[Row], verifier: MathVerifier, judged: _Judged) -> None:
    for row, score in zip(rows, verifier.score([PROBE] * len(rows), [row.answer for row in rows]), strict=True):
        if score.reason not in ("different", "equal"):
            found.add(
                GOLDS, row.number, f"has a gold that the verifier cannot read ({score.reason}): {row.answer[:80]!r}"
            )
    pairs = [(row, index, text) for row in rows for index, text in enumerate(row.demonstrations)]
    scores = verifier.score([text for *_, text in pairs], [row.answer for row, *_ in pairs])
    for (row, index, text), score in zip(pairs, scores, strict=True):
        if score.value:
            judged.accepted += 1
            continue
        found.add(REJECTED, row.number, f"has a demonstration ({index}) that the verifier rejects: {score.reason}")
        judged.rejected += 1
        judged.reasons[score.reason] += 1
        if len(judged.pairs) < TRIED:
            judged.pairs.append((text, row.answer))


def _mend(judged: _Judged, verifier: MathVerifier) -> str:
    """The sentence about a file none of whose demonstrations is accepted: the fallback that would accept most."""
    texts, golds = zip(*judged.pairs, strict=True)
    accepted: Counter[str] = Counter()
    for name in FALLBACKS:
        if name != verifier.fallback:
            with MathVerifier(verifier.workers, verifier.timeout, verifier.memory_mb, name) as other:
                accepted[name] = sum(score.value > 0 for score in other.score(list(texts), list(golds)))
    reasons = ", ".join(f"{number} {reason}" for reason, number in judged.reasons.most_common())
    start = f"the verifier rejects all {judged.rejected} demonstrations ({reasons})"
    (best, number), *_ = accepted.most_common(1)
    if number:
        return (
            f"{start}; with --verifier.fallback {best} (here: --fallback {best}) it would take {number} of the first "
            f"{len(texts)}. Or rewrite them so that they end in \\boxed{{..}}"
        )
    return f"{start}, whatever the fallback: does --label_key name the answer, and do they end in \\boxed{{..}}?"
