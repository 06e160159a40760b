"""What a reader should look at first, in words: the known ways in which a run goes wrong, found in its metrics.

Every sentence names the numbers and the flags; docs/reading-a-run.md has the whole story of each.
"""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from openrlhf_prefix.report.lines import given_away
from openrlhf_prefix.report.reading import Row, Run
from openrlhf_prefix.report.signal import Silence

RECENT = 10  # steps that "now" is
TRUNCATED, COLLAPSED, HALF_RIGHT, APART, MUCH = 0.1, 0.05, 0.5, 0.1, 0.5


def cautions(run: Run) -> list[dict[str, str]]:
    """[{"title", "text"}], the most serious first; nothing where nothing is wrong."""
    found = [(title, look(run.steps)) for title, look in LOOKS]
    return [{"title": title, "text": text} for title, text in found if text]


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows[-RECENT:] if row.get(name) is not None]
    return fmean(values) if values else None


def no_signal(steps: Sequence[Row]) -> str | None:
    silence, said, first, count = Silence(), None, 0, 0
    for row in steps:
        count += row.get("train/tokens") == 0
        if (paragraph := silence.after(row)) and said is None:
            said, first = paragraph.removeprefix("warning: "), row["step"]
    return said and f"Up to step {first}: {said} In all, {count} of {len(steps)} steps had none."


def few_gradients(steps: Sequence[Row]) -> str | None:
    share = _mean(steps, "rollout/equal_groups")
    if share is None or share <= MUCH:
        return None
    return (
        f"{share:.0%} of the rows of the last steps have no advantage: rows of a group are alike. The problems are "
        "too easy or too hard for the model by now; --algo.dynamic_filtering_enable leaves such groups out."
    )


def truncation(steps: Sequence[Row]) -> str | None:
    share, before = _mean(steps, "rollout/truncated_rate"), _mean(steps[:RECENT], "rollout/truncated_rate")
    if share is None or share <= TRUNCATED:
        return None
    rose = before is not None and share > 2 * before + TRUNCATED
    cause = (
        f"It rose from {before:.0%}: the policy does not stop. See whether demonstrations end with the stop id."
        if rose
        else "Raise --rollout.max_new_tokens, or see whether responses end at all."
    )
    return f"{share:.0%} of the rows of the last steps end at their budget. {cause}"


def prefix_alone(steps: Sequence[Row]) -> str | None:
    worst = max(steps, key=lambda row: row.get("prefix/solves_alone") or 0.0, default={})
    if said := given_away(worst):
        return f"At step {worst['step']}: {said.removeprefix('warning: ')}."
    short, long = (_mean(steps, f"prefix/reward_{bucket}") for bucket in ("0_0.25", "0.75_1"))
    plain = _mean(steps, "reward/plain")
    if short is None or long is None or plain is None or short < 0.9 or short < long - 0.05 or plain > HALF_RIGHT:
        return None
    return (
        f"The shortest prefixes earn {short:.2f}, as much as the longest, and plain rows {plain:.2f}: prefixes may "
        "give the answer away before it is written. Look at where their text ends."
    )


def collapse(steps: Sequence[Row]) -> str | None:
    entropy = _mean(steps, "rollout/entropy")
    entropy = _mean(steps, "entropy_loss") if entropy is None else entropy
    plain = _mean(steps, "reward/plain")
    if entropy is None or plain is None or entropy > COLLAPSED or plain >= HALF_RIGHT:
        return None
    return (
        f"Entropy is {entropy:.3f} nats a token while plain rows earn {plain:.2f}: the policy writes one answer "
        "whatever it is worth. Halve --actor.adam.lr, add --actor.entropy_coef 0.001, or begin with shorter prefixes "
        "(--prefix.low_start 0.5)."
    )


def engine_apart(steps: Sequence[Row]) -> str | None:
    distance = _mean(steps, "rollout/log_prob_difference")
    if distance is not None and distance >= APART:
        return (
            f"Log-probs of engine and trainer are {distance:.2f} nats apart in the mean, healthy is below 0.02: they "
            "do not compute the same. Run openrlhf-prefix doctor with this config."
        )
    unchecked = max((row.get("sync/tensors_unchecked") or 0.0 for row in steps), default=0.0)
    if not unchecked:
        return None
    return f"{unchecked:.0f} weights have no counterpart in the engine that they could be compared with."


def failures(steps: Sequence[Row]) -> str | None:
    failed, skipped, deaths = (
        sum(row.get(name) or 0.0 for row in steps) for name in ("reward/failed", "skipped_steps", "engines_replaced")
    )
    said = [f"{failed:.0f} rewards failed (reward_failures.jsonl has their tracebacks)"] * bool(failed)
    said += [f"{skipped:.0f} optimizer steps were left out, their loss or gradient was not finite"] * bool(skipped)
    said += [f"{deaths:.0f} engines died and were replaced"] * bool(deaths)
    return f"{'; '.join(said)}." if said else None


LOOKS: tuple[tuple[str, Callable[[Sequence[Row]], Any]], ...] = (
    ("Nothing to train on", no_signal),
    ("Engine and trainer differ", engine_apart),
    ("Entropy has collapsed", collapse),
    ("Responses are truncated", truncation),
    ("The prefix solves it alone", prefix_alone),
    ("Few rows have a gradient", few_gradients),
    ("Things failed on the way", failures),
)
