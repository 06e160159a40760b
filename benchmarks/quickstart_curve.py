"""Draws held-out accuracy by step of finished runs into one picture: that of the README.

    bash scripts/quickstart.sh --run.dir runs/quickstart-prefix_rft
    bash scripts/quickstart.sh --run.dir runs/quickstart-rft --hybrid.preset rft
    python benchmarks/quickstart_curve.py runs/quickstart-prefix_rft runs/quickstart-rft docs/results/quickstart.png

A line is named after the preset in its run's config.yaml; prefix_rft is strong, the others are muted. The accuracy is
avg@n of the first held-out source. One seed has no band.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from openrlhf_prefix.comparison.plots import GREY, MUTED, PERCENT, STRONG
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.settings.config import read_yaml


def curve(folder: RunFolder) -> list[tuple[int, float]]:
    """(step, accuracy in percent) of every evaluation of a run."""
    rows = [(row["step"], key, row[key]) for row in folder.read("metrics") for key in row if key.endswith("_pass1")]
    first = rows[0][1] if rows else ""
    return [(step, 100 * value) for step, key, value in rows if key == first]


def preset(folder: RunFolder) -> str:
    return read_yaml(folder.path / "config.yaml")["hybrid.preset"]


def draw(curves: dict[str, list[tuple[int, float]]], out: Path) -> None:
    """White behind everything, so that it reads on a dark page too."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (name, points) in enumerate(curves.items()):
        steps, accuracies = zip(*points, strict=True)
        strong = name == "prefix_rft"
        style = {"color": STRONG, "linewidth": 3, "zorder": 3} if strong else {"color": MUTED[place % len(MUTED)]}
        axes.plot(steps, accuracies, marker="o", label=name, **{"linewidth": 2, **style})
        axes.annotate(
            f"{name} {accuracies[-1]:.0f} %",
            (steps[-1], accuracies[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=STRONG if strong else GREY,
            weight="bold" if strong else "normal",
        )
        axes.set_xticks(steps)
    base = next(iter(curves.values()))[0]
    if base[0] == 0:
        axes.axhline(base[1], color=GREY, linewidth=1, linestyle=":")
        axes.annotate(f"base model {base[1]:.0f} %", (steps[-1], base[1]), (0, -4), textcoords="offset points",
                      ha="right", va="top", color=GREY)  # fmt: skip
    axes.set(xlabel="optimizer step", ylabel="held-out accuracy in %", ylim=PERCENT)
    axes.set_xlim(right=1.28 * steps[-1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Quickstart: accuracy on held-out problems, mean of all samples, one seed", fontsize=11)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the picture")
    args = parser.parse_args()
    folders = [RunFolder(path) for path in args.runs]
    curves = {preset(folder): curve(folder) for folder in folders}
    missing = [str(path) for path, points in zip(args.runs, curves.values(), strict=False) if not points]
    if missing or len(curves) < len(folders):
        sys.exit(f"no held-out accuracy in {', '.join(missing)}" if missing else "two runs have the same preset")
    draw(curves, args.out)
    print(args.out)


if __name__ == "__main__":
    main()
