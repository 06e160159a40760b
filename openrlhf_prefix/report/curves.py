"""The curves of the report: which metrics share a picture, what to read off it, and how long runs are thinned.

Of a long run each curve has the mean, the smallest and the largest value of every stretch of steps: the trend is seen,
and so is a spike, however many steps share a pixel. The curves of one picture share their steps, so that they can be
stacked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from openrlhf_prefix.report.reading import Row, Run

STRETCHES = 300  # a picture is a few hundred pixels wide
WHOLE = 3  # times as many steps are shown each by itself
DIGITS = 5


@dataclass(frozen=True)
class Chart:
    """One picture."""

    title: str
    note: str  # what it shows, and what is healthy
    curves: dict[str, str]  # metric -> its name in the picture
    kind: str = "lines"  # "stack": areas upon each other; "band": the first two curves are its edges
    unit: str = ""  # "%": shares, shown as percentages
    group: str = "Learning"


STOPPED = ("verifier/timeout", "verifier/crash", "verifier/memory")
PHASES = {
    "timing/generation": "generation",
    "timing/make_experience": "log-probs",
    "timing/ppo_train": "training",
    "timing/broadcast": "weight sync",
}
BUCKETS = ("0_0.25", "0.25_0.5", "0.5_0.75", "0.75_1")

CHARTS = (
    Chart(
        "Reward",
        "Mean of the rows. Plain rows are what the policy can do alone; prefixed ones start from a demonstration.",
        {"reward/plain": "plain", "reward/prefixed": "prefixed", "reward": "all rows"},
    ),
    Chart(
        "Prefix window",
        "Share of the demonstration that a prefixed row is given: the window it is drawn from, and the mean drawn.",
        {"prefix/high": "upper end", "prefix/low": "lower end", "prefix/ratio": "mean ratio"},
        "band",
    ),
    Chart(
        "Reward by prefix length",
        "Of prefixed rows, by the share they were given. It rises with the share until the policy needs none.",
        {f"prefix/reward_{bucket}": bucket.replace("_", " to ") for bucket in BUCKETS},
    ),
    Chart(
        "Prefix tokens that train",
        "Share of the prefix tokens that was kept, the most uncertain; and of prefixes that are right by themselves.",
        {"prefix/kept": "kept", "prefix/solves_alone": "solve it alone"},
        unit="%",
    ),
    Chart(
        "Entropy",
        "Nats a token. Falls slowly; near 0 while the reward is low, the rows of a group are all alike.",
        {"rollout/entropy": "sampled", "entropy_loss": "sampled, in the step", "prefix/entropy": "prefix"},
        group="Policy",
    ),
    Chart(
        "Gradient norm",
        "Before clipping. Of one size; spikes above ten times its usual are rare.",
        {"actor_grad_norm": "gradient", "prefix/gradient": "of prefix tokens alone"},
        group="Policy",
    ),
    Chart(
        "Losses",
        "The policy's says little by itself; those on demonstrations fall.",
        {"policy_loss": "policy", "imitation_loss": "imitation", "sft/validation_loss": "held-out demonstrations"},
        group="Policy",
    ),
    Chart(
        "Step size",
        "How far an update moved the policy: clipped tokens, and the change of log-probs in nats. Near 0.",
        {"ppo_clip_ratio": "clipped", "prefix/clip": "clipped prefix", "ppo_kl": "change", "kl": "KL to reference"},
        group="Policy",
    ),
    Chart(
        "Engine against trainer",
        "Distance of the engine's log-probs from the trainer's, in nats. Below 0.02 in bf16; 0.1 is a fault.",
        {"rollout/log_prob_difference": "mean distance", "vllm_kl": "KL", "is_filter_ratio": "corrected tokens"},
        group="Policy",
    ),
    Chart(
        "Distance to the teacher",
        "Mean of log pi - log pi_T on the tokens that it judged, in nats, and the share cut at the clamp. Both fall.",
        {"teacher/kl": "KL to the teacher", "teacher/clamped": "clamped tokens"},
        group="Policy",
    ),
    Chart("Learning rate", "After the step.", {"actor_lr": "learning rate"}, group="Policy"),
    Chart(
        "Length",
        "Tokens a row: those that the policy wrote, and those it was given. No jump to the budget.",
        {"rollout/response_length_mean": "written", "prefix/length": "prefix"},
        group="Rows",
    ),
    Chart(
        "Truncated",
        "Rows that end at their budget, mostly without an answer. Below 10 %.",
        {"rollout/truncated_rate": "training", "eval_truncated_rate": "held-out"},
        unit="%",
        group="Rows",
    ),
    Chart(
        "Rows without a gradient",
        "They equal those that they are compared with and teach nothing: too easy, or too hard. Below half.",
        {"share/no_gradient": "not trained", "rollout/equal_groups": "no advantage"},
        unit="%",
        group="Rows",
    ),
    Chart(
        "What the verifier said",
        "Rows of a step by its verdict.",
        {
            "verifier/equal": "right",
            "verifier/different": "wrong",
            "verifier/no_answer": "no answer",
            "verifier/unparseable": "unreadable",
            "stopped": "stopped",
            "reward/failed": "reward failed",
        },
        "stack",
        group="Rows",
    ),
    Chart("Speed", "Sampled tokens a second of the whole step.", {"speed": "tokens/s"}, group="Machine"),
    Chart("Seconds of a step", "By phase, one upon the other.", PHASES, "stack", group="Machine"),
    Chart(
        "Beside the steps",
        "Seconds of an evaluation and of a save.",
        {"timing/evaluation": "evaluation", "timing/checkpoint": "checkpoint"},
        group="Machine",
    ),
    Chart(
        "Memory",
        "GiB at the most so far: tensors on the GPU of the first learner, or its process where there is no GPU.",
        {"memory/learner": "learner"},
        group="Machine",
    ),
)
SHOWN = {name for chart in CHARTS for name in chart.curves} | {*STOPPED, "step", "rollout/reward_mean", "score"}


def derived(row: Row) -> Row:
    """A row with what follows from its metrics."""
    more: Row = {}
    if not row.get("prefix/rows"):  # a window that no row was drawn from
        row = {name: value for name, value in row.items() if name not in ("prefix/low", "prefix/high")}
    if "train/rows_skipped" in row and row.get("rollout/num_samples"):
        more["share/no_gradient"] = row["train/rows_skipped"] / row["rollout/num_samples"]
    if row.get("timing/step_total") and "rollout/tokens_generated" in row:
        more["speed"] = row["rollout/tokens_generated"] / row["timing/step_total"]
    if any(name in row for name in STOPPED):
        more["stopped"] = sum(row.get(name, 0.0) for name in STOPPED)
    return {**row, **more}


def charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every picture that has a point in some run, with the runs' points; the metrics of no picture have one each."""
    rows = [[derived(row) for row in (*run.steps, *run.beside)] for run in runs]
    others = sorted({name for of_run in rows for row in of_run for name in row} - SHOWN - {"speed"})
    more = [Chart(name, "", {name: name}, group="Everything else") for name in others if not name.startswith("eval_")]
    found = []
    for chart in (*CHARTS, *more):
        points = [thinned(of_run, list(chart.curves)) for of_run in rows]
        if any(one["steps"] for one in points):
            found.append({**asdict(chart), "runs": points})
    return found


def thinned(rows: Iterable[Mapping[str, Any]], curves: Sequence[str], stretches: int = STRETCHES) -> dict[str, Any]:
    """The points of these curves, at the same steps.

    Returns:
        {"steps": [...], "values": {curve: [value or None, ...]}, "each": steps that a point stands for}, and where
        that is more than one {"low": {curve: [...]}, "high": {...}}; without the curves that have no value.
    """
    merged: dict[int, dict[str, float]] = {}
    for row in rows:
        known = {name: row[name] for name in curves if row.get(name) is not None}
        if known:
            merged.setdefault(row["step"], {}).update(known)
    steps = sorted(merged)
    parts = [[step] for step in steps]
    if len(steps) > WHOLE * stretches:
        ends = [number * len(steps) // stretches for number in range(stretches + 1)]
        parts = [steps[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]
    found: dict[str, Any] = {"steps": [part[len(part) // 2] for part in parts], "each": len(parts[0]) if parts else 1}
    shown: dict[str, Callable[[list[float]], float]] = {"values": fmean}
    if found["each"] > 1:
        shown |= {"low": min, "high": max}
    for name in curves:
        columns = [[merged[step][name] for step in part if name in merged[step]] for part in parts]
        if any(columns):
            for kind, of in shown.items():
                found.setdefault(kind, {})[name] = [_rounded(of(column)) if column else None for column in columns]
    return {"values": {}, **found}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
