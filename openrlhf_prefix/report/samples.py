"""The rollouts that the page carries: whole groups at steps spread over the run, and those of the most telling rows.

    telling   "luckiest": plain rows with the highest advantage, right where the rest of their group is wrong;
              "worst": rows with the lowest advantage, wrong where the rest is right

rollouts.jsonl may be larger than a page should be. It is read twice, row by row: first for the place of every group
and the telling rows, then for the groups that fit into the budget, whole and of evenly spread steps. What is left out
is said in words, and so is what is cut from a long text.
"""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from openrlhf_prefix.report.reading import Lines, Row, Run, is_number, parse
from openrlhf_prefix.reward.boxes import boxed_answer

BUDGET = 2_500_000  # characters of all samples of a page
LONGEST = 12_000  # characters of a text, of which a quarter from its end
TELLING = 12
MANY_STEPS = 60  # at least so many of them are shown before more than one group of each is

COSTS = (("token_lengths", 2), ("log_probs", 7), ("kept", 4))  # characters of one of them in the page, about

Key = tuple[int, int]  # step, group


@dataclass
class Place:
    """Where a group's rows lie in the file."""

    lines: list[int] = field(default_factory=list)
    rows: int = 0
    size: int = 0  # characters that it takes in the page, about


def samples(run: Run, budget: int = BUDGET) -> dict[str, Any]:
    """{"groups": [...], "worst": [[place in groups, place in its rows], ...], "luckiest": ..., "said": sentence}."""
    lines = Lines(run.path / "rollouts.jsonl")
    places, worst, luckiest = _survey(lines)
    run.notes += lines.notes()
    telling = affordable(
        places, [key for pair in zip_longest(luckiest, worst) for _, key, _ in filter(None, pair)], budget // 2
    )
    chosen = sorted(telling | choose(places, budget - sum(places[key].size for key in telling)))
    with_text = _read(run, places, chosen)
    number = {key: position for position, (key, _) in enumerate(with_text)}
    groups = [group for _, group in with_text]

    def found(rows: Iterable[tuple[float, Key, int]]) -> list[list[int]]:
        return [[number[key], slot] for _, key, slot in rows if key in number]

    return {
        "groups": groups,
        "worst": found(worst),
        "luckiest": found(luckiest),
        "said": _said(places, chosen),
    }


def affordable(places: Mapping[Key, Place], wanted: Iterable[Key], budget: int) -> set[Key]:
    """The first of the wanted groups that fit into the budget together."""
    found: set[Key] = set()
    for key in wanted:
        if key not in found:
            budget -= places[key].size
            if budget < 0:
                break
            found.add(key)
    return found


def choose(places: Mapping[Key, Place], budget: int) -> set[Key]:
    """Groups that fit into the budget: of all steps, or of evenly spread ones, the first and the last among them."""
    if sum(place.size for place in places.values()) <= budget:
        return set(places)
    by_step: dict[int, list[Key]] = {}
    for key in sorted(places):
        by_step.setdefault(key[0], []).append(key)
    steps = list(by_step)
    allowed = max(1, int(budget * len(places) / sum(place.size for place in places.values())))
    of_each = max(1, allowed // min(len(steps), MANY_STEPS))
    some = spread(steps, max(1, allowed // min(of_each, max(map(len, by_step.values())))))
    return {key for step in some for key in by_step[step][:of_each]}


def spread(items: Sequence[int], number: int) -> list[int]:
    """So many of the items, evenly, the first and the last among them; one is the last."""
    if number >= len(items):
        return list(items)
    if number == 1:
        return [items[-1]]
    return [items[round(place * (len(items) - 1) / (number - 1))] for place in range(number)]


def _survey(lines: Lines) -> tuple[dict[Key, Place], list, list]:
    """Every group's place, and the telling rows: (advantage, group, slot), the most telling first."""
    places: dict[Key, Place] = {}
    worst: list[tuple[float, Key, int]] = []
    lucky: list[tuple[float, Key, int]] = []
    for position, row in lines:
        key = (row["step"], _whole(row.get("group")))
        place = places.setdefault(key, Place())
        place.lines.append(position)
        texts = (row.get("prefix"), row.get("continuation"), row.get("prompt") if not place.rows else "")
        place.size += sum(min(len(text), LONGEST) for text in texts if isinstance(text, str)) + 120
        place.size += sum(each * len(row.get(name) or ()) for name, each in COSTS)
        advantage, slot = _number(row.get("advantage")) or 0.0, place.rows
        place.rows += 1
        if advantage < 0:
            _keep(worst, (-advantage, key, slot))
        elif advantage > 0 and not row.get("prefix_length"):
            _keep(lucky, (advantage, key, slot))
    return places, sorted(worst, reverse=True), sorted(lucky, reverse=True)


def _keep(heap: list, row: tuple[float, Key, int]) -> None:
    """Among TELLING rows, those of later steps where advantages are equal."""
    (heapq.heappush if len(heap) < TELLING else heapq.heappushpop)(heap, row)


def _read(run: Run, places: Mapping[Key, Place], chosen: Iterable[Key]) -> list[tuple[Key, dict[str, Any]]]:
    found = []
    if not places:
        return []
    with (run.path / "rollouts.jsonl").open("rb") as file:
        for key in chosen:
            rows = []
            for position in places[key].lines:
                file.seek(position)
                if (row := parse(file.readline())) is not None:  # a resume may have shortened the file just now
                    rows.append(row)
            if rows:
                found.append((key, group(rows)))
    return found


def group(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows of a problem at a step; what they share once."""
    first = rows[0]
    prompts = {row.get("prompt") for row in rows}
    return {
        "step": first["step"],
        "group": _whole(first.get("group")),
        "problem": _text(first.get("problem")),
        "answer": _text(first.get("answer")),
        "prompt": _text(first.get("prompt")),
        "rows": [_row(row, len(prompts) > 1) for row in rows],
    }


def _row(row: Row, own_prompt: bool) -> dict[str, Any]:
    texts = [row.get(name) for name in ("prefix", "continuation")]
    prefix, text = (one if isinstance(one, str) else "" for one in texts)
    made = {
        "slot": _whole(row.get("slot")),
        "prefix": _text(prefix),
        "text": _text(text),
        "said": _text(boxed_answer(prefix + text[-LONGEST:]) or "", 200),
        "reward": _number(row.get("reward")),
        "advantage": _number(row.get("advantage")),
        "prefix_advantage": _number(row.get("prefix_advantage")),
        "prefix_length": _whole(row.get("prefix_length")),
        "length": len(row["token_lengths"]) if isinstance(row.get("token_lengths"), list) else None,
        "verdict": row.get("verdict") if isinstance(row.get("verdict"), str) else None,
        "truncated": row.get("truncated") is True,
        "alone": row.get("prefix_solves_alone") is True,
        "failed": row.get("reward_failed") is True,
    }
    if own_prompt:
        made["prompt"] = _text(row.get("prompt"))
    made |= _tokens(row, prefix, text)
    return {name: value for name, value in made.items() if value is not None and value is not False and value != ""}


def _tokens(row: Row, prefix: str, text: str) -> dict[str, Any]:
    """Characters of each token, their log-probs, and which of the prefix train; nothing where the text was cut."""
    lengths, log_probs, kept = (row.get(name) for name in ("token_lengths", "log_probs", "kept"))
    if not isinstance(lengths, list) or not _whole_numbers(lengths) or sum(lengths) != len(prefix + text):
        return {}
    if max(len(prefix), len(text)) > LONGEST:
        return {}
    found: dict[str, Any] = {"tokens": lengths}
    if isinstance(log_probs, list) and len(log_probs) == len(lengths) and any(map(is_number, log_probs)):
        found["log_probs"] = [round(value, 3) if is_number(value) else None for value in log_probs]
    if isinstance(kept, list) and _whole_numbers(kept) and all(place < len(lengths) for place in kept):
        found["kept"] = kept
    return found


def _text(value: Any, longest: int = LONGEST) -> str:
    """A text, without its middle where it is too long for the page."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end]}\n[... {len(text) - longest:,} characters are left out here ...]\n{text[-end:]}"


def _said(places: Mapping[Key, Place], chosen: Sequence[Key]) -> str:
    """Which of them are here.

    Example: 4,096 of 50,000 samples: whole groups at 64 of 1,250 logged steps; all of them are in rollouts.jsonl
    """
    if not places:
        return ""
    rows, total = sum(places[key].rows for key in chosen), sum(place.rows for place in places.values())
    steps, of = len({step for step, _ in chosen}), len({step for step, _ in places})
    if rows == total:
        return f"{total:,} samples of {of:,} steps"
    return (
        f"{rows:,} of {total:,} samples: whole groups at {steps:,} of {of:,} logged steps; "
        "all of them are in rollouts.jsonl"
    )


def _number(value: Any) -> float | None:
    return float(f"{value:.4g}") if is_number(value) else None


def _whole(value: Any) -> int:
    return value if type(value) is int else 0


def _whole_numbers(values: list) -> bool:
    return all(type(one) is int and one >= 0 for one in values)
