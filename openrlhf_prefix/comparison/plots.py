"""The pictures of a comparison: accuracy by step, pass@k, and accuracy of every method.

Lines and markers are means over seeds; bands and bars are their 95 % intervals, cut where an accuracy ends. prefix_rft
stands out, its rivals are muted, the base model is a dotted line with its name.
"""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from openrlhf_prefix.comparison.plan import BASE, Plan
from openrlhf_prefix.comparison.summary import Entry, Estimate, Lines, entries

STRONG, GREY = "#b2182b", "#4d4d4d"
MUTED = ["#7a9cc6", "#8fbf9f", "#d9b382", "#b09cc8", "#9fc5c9", "#c9a0a0", "#b5b87d", "#a3a3a3"]
DASHES = ["-", "--", "-.", ":"]
MARKERS = "osD^v"
DOTS = [":", "-.", "--", "-"]  # base models of the sets
PERCENT = (-2, 102)  # a marker at the end of the scale is seen whole


def draw(plan: Plan, lines: Lines, folder: Path) -> list[Path]:
    """Writes the pictures of every task that has finished final runs; returns their paths."""
    paths = []
    for task in plan.tasks:
        found = entries(plan, lines, task)
        if not any(entry.method != BASE for entry in found):
            continue
        for name, picture in (("curves", _curves), ("pass", _pass), ("accuracy", _accuracy)):
            paths.append(folder / f"{task}-{name}.png")
            picture(plan, task, found).savefig(paths[-1], dpi=120)
    return paths


def style(plan: Plan, method: str) -> dict[str, Any]:
    """Colour and line of a method, the same in every picture of a plan."""
    if plan.methods[method].get("hybrid.preset", method) == "prefix_rft":
        return {"color": STRONG, "linewidth": 2.5, "zorder": 3}
    place = list(plan.methods).index(method)
    dash = DASHES[(place + place // len(MUTED)) % len(DASHES)]  # another one in the second round of colours
    return {"color": MUTED[place % len(MUTED)], "linestyle": dash, "linewidth": 1.5}


def percent(estimate: Estimate) -> tuple[float, float, float]:
    """Mean and both ends of the interval in percent, between 0 and 100; no interval: three times the mean."""
    mean, half = 100 * estimate[0], 100 * (estimate[1] or 0.0)
    return mean, max(0.0, mean - half), min(100.0, mean + half)


def _figure(width: float, panels: int, title: str, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no display, whatever the machine has
    figure.suptitle(title)
    return figure, figure.subplots(1, panels, squeeze=False, **grid)[0]


def _band(axes: Any, xs: list[int], estimates: list[Estimate], **line: Any) -> None:
    means, low, high = zip(*map(percent, estimates), strict=True)
    axes.plot(xs, means, **line)
    axes.fill_between(xs, low, high, color=line["color"], alpha=0.12, linewidth=0)


def _base(axes: Any, found: list[Entry], sets: list[str]) -> None:
    """The base model's accuracy on held-out sets, where it was measured."""
    for entry in found:
        if entry.method == BASE:
            for name, dash in zip(sets, DOTS, strict=False):
                height = percent(entry.accuracy(name))[0]
                axes.axhline(height, linestyle=dash, color=GREY, linewidth=1, label=f"base model, {name}")


def _curves(plan: Plan, task: str, found: list[Entry]) -> Figure:
    first = next(iter(plan.tasks[task].sets))
    title = f"{task}: accuracy on {first} problems while training (mean of {len(plan.seeds)} seeds, band 95 %)"
    figure, (axes,) = _figure(8.5, 1, title)
    for entry in found:
        if entry.method != BASE:
            steps, estimates = zip(*entry.curve(), strict=True)
            _band(axes, list(steps), list(estimates), label=entry.method, **style(plan, entry.method))
            axes.set_xticks(steps)
    _base(axes, found, [first])
    axes.set(xlabel="optimizer step", ylabel="accuracy in %", ylim=PERCENT)
    figure.legend(loc="outside right center")
    return figure


def _pass(plan: Plan, task: str, found: list[Entry]) -> Figure:
    sets, ks = list(plan.tasks[task].sets), sorted(plan.ks)
    title = f"{task}: share of problems that one of k samples solves (mean of {len(plan.seeds)} seeds, band 95 %)"
    figure, panels = _figure(4.5 * len(sets) + 2, len(sets), title, sharey=True)
    for axes, name in zip(panels, sets, strict=True):
        for entry in found:
            line = {"color": GREY, "linestyle": ":"} if entry.method == BASE else style(plan, entry.method)
            label = None if name != sets[0] else "base model" if entry.method == BASE else entry.method
            _band(axes, ks, [entry.passed(name, k) for k in ks], label=label, **line)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [str(k) for k in ks])
        axes.set(title=f"{name} problems", xlabel="k", ylim=PERCENT)
    panels[0].set_ylabel("pass@k in %")
    figure.legend(loc="outside right center")
    return figure


def _accuracy(plan: Plan, task: str, found: list[Entry]) -> Figure:
    """One panel for every group of methods that the file names, one marker for every held-out set."""
    by_method = {entry.method: entry for entry in found}
    groups = plan.panels or {"": list(plan.methods)}
    shown = {title: [method for method in methods if method in by_method] for title, methods in groups.items()}
    shown = {title: methods for title, methods in shown.items() if methods}
    widths = [len(methods) for methods in shown.values()]  # equal steps between methods in all panels
    title = f"{task}: accuracy after training (mean of {len(plan.seeds)} seeds, bar 95 %)"
    figure, panels = _figure(2 + 1.1 * sum(widths), len(shown), title, sharey=True, width_ratios=widths)
    for axes, (group, methods) in zip(panels, shown.items(), strict=True):
        for place, method in enumerate(methods):
            for offset, (marker, name) in enumerate(zip(MARKERS, plan.tasks[task].sets, strict=False)):
                mean, low, high = percent(by_method[method].accuracy(name))
                axes.errorbar(
                    place + 0.12 * offset,
                    mean,
                    [[mean - low], [high - mean]],
                    fmt=marker,
                    capsize=4,
                    color=style(plan, method)["color"],
                    markerfacecolor=None if offset == 0 else "white",
                    label=f"{name} problems",
                )
        _base(axes, found, list(plan.tasks[task].sets))
        axes.set_xticks(range(len(methods)), methods, rotation=60, ha="right", rotation_mode="anchor")
        axes.set(title=group, xlim=(-0.5, len(methods) - 0.5), ylim=PERCENT)
    panels[0].set_ylabel("accuracy in %")
    handles, labels = panels[0].get_legend_handles_labels()
    once = dict(zip(labels[::-1], handles[::-1], strict=True))  # every method brings the markers of all sets
    figure.legend(once.values(), once.keys(), loc="outside right center")
    return figure
