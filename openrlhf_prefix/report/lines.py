"""What a person reads while a run goes on: one line a step, one table at the end. Pure functions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from openrlhf_prefix.report import signal

PHASES = {
    "timing/generation": "gen",
    "timing/make_experience": "logp",
    "timing/ppo_train": "train",
    "timing/broadcast": "sync",
}

GIVEN_AWAY = 0.01  # share of the prefixes of a step


def step_line(step: int, total: int, metrics: Mapping[str, Any]) -> str:
    """One step in one line.

    Example: step 3/20 | reward 0.38 plain 0.31 prefixed 0.88 | window 0.84-0.95 ratio 0.90 kept 0.20 | length 31 |
    entropy 0.81 | grad 0.52 | gen 1.2s logp 0.3s train 0.9s sync 0.1s | 1,240 tokens/s | left 0:00:43
    """
    if "sft/rows" in metrics:
        return _supervised_line(step, total, metrics)
    parts = [f"step {step}/{total}", f"reward {_number(metrics, 'reward')} plain {_number(metrics, 'reward/plain')}"]
    if metrics.get("reward/failed"):
        parts[-1] += f" failed {_number(metrics, 'reward/failed', 0)}"
    if metrics.get("prefix/rows"):
        parts[-1] += f" prefixed {_number(metrics, 'reward/prefixed')}"
        window = f"{_number(metrics, 'prefix/low')}-{_number(metrics, 'prefix/high')}"
        parts.append(
            f"window {window} ratio {_number(metrics, 'prefix/ratio')} kept {_number(metrics, 'prefix/kept')}"
        )
    parts.append(f"length {_number(metrics, 'rollout/response_length_mean', 0)}")
    measured = "rollout/entropy" if "rollout/entropy" in metrics else "entropy_loss"  # before the step, or in it
    parts.append(f"entropy {_number(metrics, measured)}")
    parts.append(f"grad {_number(metrics, 'actor_grad_norm')}")
    parts.append(" ".join(f"{short} {_number(metrics, key, 1)}s" for key, short in PHASES.items()))
    return " | ".join([*parts, *_pace(step, total, metrics), *signal.words(metrics)])


def _pace(step: int, total: int, metrics: Mapping[str, Any]) -> list[str]:
    """Sampled tokens of a second of the whole step, and the time that the rest takes at this step's pace."""
    seconds = metrics.get("timing/step_total")
    if not seconds:
        return []
    tokens = metrics.get("rollout/tokens_generated", 0.0) / seconds
    return [f"{tokens:,.0f} tokens/s", f"left {timedelta(seconds=round((total - step) * seconds))}"]


def given_away(metrics: Mapping[str, Any]) -> str | None:
    """What to say of prefixes that are right by themselves, when they are more than GIVEN_AWAY."""
    share, rows = metrics.get("prefix/solves_alone") or 0.0, metrics.get("prefix/rows") or 0.0
    if share <= GIVEN_AWAY:
        return None
    return (
        f"warning: {round(share * rows)} of {rows:.0f} prefixes earn the reward by themselves, whatever follows, and "
        "teach nothing (prefix/solves_alone; prefix_solves_alone in rollouts.jsonl tells which): keep "
        "--prefix.stop_before_answer true, and look where their text gives the answer away"
    )


def _supervised_line(step: int, total: int, metrics: Mapping[str, Any]) -> str:
    """Example: step 3/20 | supervised loss 0.83 held-out 0.91 | grad 0.52 | train 0.9s"""
    loss = f"supervised loss {_number(metrics, 'imitation_loss')}"
    if "sft/validation_loss" in metrics:
        loss += f" held-out {_number(metrics, 'sft/validation_loss')}"
    seconds = f"train {_number(metrics, 'timing/step_total', 1)}s"
    return f"step {step}/{total} | {loss} | grad {_number(metrics, 'actor_grad_norm')} | {seconds}"


def _number(metrics: Mapping[str, Any], key: str, digits: int = 2) -> str:
    value = metrics.get(key)
    return "-" if value is None else f"{value:.{digits}f}"


def eval_line(step: int, metrics: Mapping[str, Any], failed: int = 0, samples: int = 0) -> str:
    """Held-out accuracy in one line, and how many of the samples had no reward."""
    shown = [f"{key.removeprefix('eval_')} {value:.1%}" for key, value in metrics.items() if "_pass" in key]
    shown += [f"without {failed} of {samples} samples, whose rewards failed"] * bool(failed)
    return " | ".join([f"held-out at step {step}", *shown])


def summary_table(summary: Mapping[str, Any]) -> str:
    """Base against trained, and where things are.

    Args:
        summary: {"base": {metric: value}, "trained": {...}, "gains": {metric: (gain, low, high)}, "steps": int,
            "seconds": float, "this_start": {"steps": int, "seconds": float}, "paths": {name: path}}; a gain
            is over the problems that have both scores, the outer steps and seconds are the whole run's.
    """
    lines = [f"{'held-out':<28}{'base':>9}{'trained':>9}{'gain':>9}   95 % interval"]
    for metric, trained in summary["trained"].items():
        base, gain = summary["base"].get(metric), summary["gains"].get(metric)
        shown = f"{metric:<28}{'-' if base is None else f'{base:.1%}':>9}{trained:>9.1%}"
        lines.append(f"{shown}{_gain(*gain) if gain else '-'.rjust(9)}")
    here = summary["this_start"]
    resumed = f", of them {here['steps']} in {here['seconds']:.0f} s since this start"
    again = resumed if here["steps"] < summary["steps"] else ""
    lines.append(f"{summary['steps']} steps in {summary['seconds']:.0f} s{again}")
    lines += [f"{name + ':':<14}{path}" for name, path in summary["paths"].items()]
    return "\n".join(lines)


def _gain(gain: float, low: float, high: float) -> str:
    """Points, their interval over problems, and whether they can be told from none."""
    noise = "  within noise" if low <= 0 <= high else ""
    return f"{100 * gain:>+9.1f}   [{100 * low:+.1f}, {100 * high:+.1f}]{noise}"
