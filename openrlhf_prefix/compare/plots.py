"""The pictures of a comparison: accuracy by step, pass@k, and accuracy of every method; bands and bars are 95 %."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from openrlhf_prefix.compare.plan import BASE, Plan
from openrlhf_prefix.compare.summary import Entry, Estimate, Lines, entries

MARKERS = "osD^v"
PERCENT = (0, 102)  # an interval may reach further, an accuracy does not


def draw(plan: Plan, lines: Lines, folder: Path) -> list[Path]:
    """Writes the pictures of every task that has finished final runs; returns their paths."""
    paths = []
    for task in plan.tasks:
        found = entries(plan, lines, task)
        if not any(entry.method != BASE for entry in found):
            continue
        colours = {method: f"C{index}" for index, method in enumerate(plan.methods)} | {BASE: "black"}
        for name, figure in (
            ("curves", _curves(plan, task, found, colours)),
            ("pass", _pass(plan, task, found, colours)),
            ("accuracy", _accuracy(plan, task, found)),
        ):
            paths.append(folder / f"{task}-{name}.png")
            figure.savefig(paths[-1], dpi=120)
    return paths


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the machine has
    return figure


def _band(axes: Any, xs: list[int], estimates: list[Estimate], colour: str, label: str) -> None:
    """A line through means, and a band where there is an interval."""
    means = [100 * mean for mean, _ in estimates]
    halves = [100 * (half or 0.0) for _, half in estimates]
    axes.plot(xs, means, color=colour, label=label, linestyle="--" if label == BASE else "-")
    low, high = ([mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)


def _curves(plan: Plan, task: str, found: list[Entry], colours: dict[str, str]) -> Figure:
    figure = _figure(7, 5)
    axes = figure.subplots()
    for entry in found:
        if entry.method != BASE:
            points = entry.curve()
            steps = [step for step, _ in points]
            _band(axes, steps, [value for _, value in points], colours[entry.method], entry.method)
            axes.set_xticks(steps)
    first = next(iter(plan.tasks[task].sets))
    axes.set(title=f"{task}, {first}", xlabel="step", ylabel="accuracy in %", ylim=PERCENT)
    axes.legend()
    return figure


def _pass(plan: Plan, task: str, found: list[Entry], colours: dict[str, str]) -> Figure:
    sets = list(plan.tasks[task].sets)
    figure = _figure(6 * len(sets), 5)
    ks = sorted(plan.ks)
    for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for entry in found:
            _band(axes, ks, [entry.passed(name, k) for k in ks], colours[entry.method], entry.method)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.set(title=f"{task}, {name}", xlabel="k", ylabel="pass@k in %", ylim=PERCENT)
        axes.legend()
    return figure


def _accuracy(plan: Plan, task: str, found: list[Entry]) -> Figure:
    """One panel for every group of methods that the file names, one marker for every held-out set."""
    panels = plan.panels or {"": list(plan.methods)}
    by_method = {entry.method: entry for entry in found}
    figure = _figure(max(6.0, 3.5 * len(panels)), 5)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, methods) in zip(grid, panels.items(), strict=True):
        shown = [method for method in methods if method in by_method]
        for marker, name in zip(MARKERS, plan.tasks[task].sets, strict=False):
            estimates = [by_method[method].accuracy(name) for method in shown]
            axes.errorbar(
                range(len(shown)),
                [100 * mean for mean, _ in estimates],
                [100 * (half or 0.0) for _, half in estimates],
                fmt=marker,
                capsize=4,
                label=name,
            )
            if BASE in by_method:
                axes.axhline(100 * by_method[BASE].accuracy(name)[0], linestyle=":", color="grey")
        axes.set_xticks(range(len(shown)), shown, rotation=30, ha="right")
        axes.set(title=f"{task} {title}".strip())
    axes.legend()
    figure.axes[0].set_ylabel("accuracy in %; dotted: base model")
    return figure
