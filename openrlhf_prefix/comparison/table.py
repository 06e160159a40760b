"""table.md: what was compared and what came out, with the grid of learning rates that each method was tuned on."""

from openrlhf_prefix.comparison.plan import BASE, Plan, rate
from openrlhf_prefix.comparison.summary import Entry, Estimate, Lines, choose_rate, entries, tuning_scores


def table(plan: Plan, lines: Lines, failed: Lines) -> str:
    """The whole file as markdown."""
    parts = [_section(plan, lines, task) for task in plan.tasks]
    if failed:
        rows = [f"- `{name}`: {line['failed']}" for name, line in failed.items()]
        parts.append("\n".join(["## Failed runs", "", *rows]))
    return "\n\n".join(parts) + "\n"


def _section(plan: Plan, lines: Lines, task: str) -> str:
    found = entries(plan, lines, task)
    parts = [f"## {task}", _intention(plan, found), _results(plan, task, found)]
    if plan.tuned(task):
        parts += [
            f"Accuracy at each learning rate of the grid, on `{plan.tasks[task].tune}`, which nothing else uses, seed "
            f"{plan.tuning_seed}; the best is the one above. An arrow marks a best one at an edge of the grid, beyond "
            "which a better one may lie.",
            _grid(plan, lines, task),
        ]
    return "\n\n".join(parts)


def _intention(plan: Plan, found: list[Entry]) -> str:
    steps = sorted({line["optimizer_steps"] for entry in found for line in entry.lines if entry.method != BASE})
    problems = sorted({row["problems"] for entry in found for line in entry.lines for row in line["sets"].values()})
    return (
        f"Mean over seeds {', '.join(map(str, plan.seeds))} +- half of its 95 % interval (Student's t), in percent. "
        f"Optimizer steps: {_list(steps)} each. Held-out problems: {_list(problems)} a set, {plan.samples} samples "
        "each; pass@k is the unbiased estimate. Seconds are those of the training steps, without start-up and "
        "evaluation. Where a policy made the training data, tokens generated and seconds count that as well."
    )


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values)) or "-"


def _results(plan: Plan, task: str, found: list[Entry]) -> str:
    ks = [k for k in plan.ks if k != 1]  # pass@1 is avg
    sets = plan.tasks[task].sets
    scores = [f"{name} {what}" for name in sets for what in [f"avg@{plan.samples}", *(f"pass@{k}" for k in ks)]]
    header = ["method", "learning rate", "runs", *scores, "tokens generated", "tokens trained", "seconds"]
    rows = []
    for entry in found:
        cells = [entry.method, "-" if entry.lr is None else rate(entry.lr), str(len(entry.lines))]
        for name in sets:
            cells += [_percent(entry.accuracy(name)), *(_percent(entry.passed(name, k)) for k in ks)]
        cells += ["-"] * 3 if entry.method == BASE else _costs(entry)
        rows.append(cells)
    return _markdown(header, rows)


def _costs(entry: Entry) -> list[str]:
    return [
        _plain(entry.estimate(lambda line, name=name: line[name]))
        for name in ("tokens_generated", "tokens_trained", "seconds")
    ]


def _grid(plan: Plan, lines: Lines, task: str) -> str:
    grid = sorted(plan.grid(task))
    rows = []
    for method in plan.compared(task):
        chosen, scores = choose_rate(plan, lines, task, method), tuning_scores(plan, lines, task, method)
        cells = ["-" if scores[lr] is None else f"{100 * scores[lr]:.1f}" for lr in grid]
        if chosen is not None:
            edge = {grid[0]: "<- ", grid[-1]: "-> "}.get(chosen, "")
            cells[grid.index(chosen)] = f"{edge}**{cells[grid.index(chosen)]}**"
        rows.append([method, *cells])
    return _markdown(["method", *map(rate, grid)], rows)


def _percent(estimate: Estimate) -> str:
    mean, half = estimate
    return f"{100 * mean:.1f}" + ("" if half is None else f" +- {100 * half:.1f}")


def _plain(estimate: Estimate) -> str:
    mean, half = estimate
    return f"{mean:,.0f}" + ("" if half is None else f" +- {half:,.0f}")


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
