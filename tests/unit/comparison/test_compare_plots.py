"""What the pictures of a comparison show: nothing beyond the scale, and the project's own method in front."""

from dataclasses import replace

import numpy as np
import pytest
from test_compare_summary import PLAN, make_lines

from openrlhf_prefix.comparison import plots
from openrlhf_prefix.comparison.summary import entries

WIDE = {"sft": [0.0, 0.5, 1.0], "rft": [0.9, 1.0, 1.0]}  # t intervals of +- 124 and +- 14 points
PICTURES = [plots._curves, plots._pass, plots._accuracy]


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        ((0.98, 0.1), (98, 88, 100)),
        ((0.01, 0.2), (1, 0, 21)),
        ((0.5, None), (50, 50, 50)),
        ((0.5, 0.25), (50, 25, 75)),
    ],
)
def test_an_interval_ends_where_accuracies_end(estimate: tuple, expected: tuple) -> None:
    assert plots.percent(estimate) == pytest.approx(expected)


@pytest.mark.parametrize("picture", PICTURES)
def test_nothing_is_drawn_below_0_or_above_100(picture) -> None:
    figure = picture(PLAN, "chains", entries(PLAN, make_lines(WIDE), "chains"))
    heights = []
    for axes in figure.axes:
        for line in axes.lines:
            heights += list(np.asarray(line.get_ydata(), dtype=float))
        for drawn in axes.collections:
            heights += [y for path in drawn.get_paths() for y in path.vertices[:, 1]]
    assert len(heights) > 10 and min(heights) >= 0 and max(heights) <= 100
    assert max(heights) == 100  # the wide interval was cut, not left out


@pytest.mark.parametrize("picture", PICTURES)
def test_the_legend_stands_beside_the_axes_and_names_the_base_model(picture) -> None:
    figure = picture(PLAN, "chains", entries(PLAN, make_lines(), "chains"))
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert any("base model" in text.get_text() for text in legend.get_texts())


def test_the_projects_own_preset_stands_out_and_no_two_rivals_look_alike() -> None:
    methods = {"prefix_rft": {}, "short": {"hybrid.preset": "prefix_rft"}} | {f"m{n}": {} for n in range(12)}
    styles = {method: plots.style(replace(PLAN, methods=methods), method) for method in methods}
    own, rivals = list(styles.values())[:2], list(styles.values())[2:]
    assert all(style["color"] == plots.STRONG and style["linewidth"] == 2.5 for style in own)
    assert not any(style["color"] == plots.STRONG for style in rivals)
    assert len({(style["color"], style["linestyle"]) for style in rivals}) == 12


def test_methods_stand_at_equal_steps_in_panels_of_any_size() -> None:
    figure = plots._accuracy(PLAN, "chains", entries(PLAN, make_lines(), "chains"))
    figure.canvas.draw()
    steps = [axes.get_window_extent().width / len(axes.get_xticks()) for axes in figure.axes]
    assert [len(axes.get_xticks()) for axes in figure.axes] == [1, 2]
    assert steps[0] == pytest.approx(steps[1], rel=0.02)
