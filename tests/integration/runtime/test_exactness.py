"""The parameter change of real DeepSpeed engines against the one worked out row by row."""

from dataclasses import replace

import pytest

pytest.importorskip("openrlhf")

from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY
from openrlhf_prefix.algorithm.losses import DIVISORS
from openrlhf_prefix.algorithm.presets import PRESETS
from openrlhf_prefix.runtime.audit.exactness.batch import STEP_ROWS, Terms
from openrlhf_prefix.runtime.audit.exactness.layouts import Layout, all_layouts, covering
from openrlhf_prefix.runtime.audit.exactness.measure import TOLERANCE, measure, measure_cases

SMALL = [Layout(1, 1), Layout(1, 4, stage=2), Layout(2, 2, True, stage=1, reordered=True), Layout(2, 0, True, stage=2)]

ALONE = {"kl_coef": 0.0, "entropy_coef": None, "correction": False}  # the policy's and the imitation term
LAYOUTS = [
    pytest.param(covering(all_layouts()), 45, id="any three settings"),
    pytest.param(all_layouts(), 390, id="all", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("layouts", "count"), LAYOUTS)
def test_every_layout_moves_the_parameters_alike(layouts, count):
    """Micro-batches of 1, 2, 4 rows and dynamic, 1 and 2 ranks, packed and padded, ZeRO 1-3, offload, two orders, a
    head fused and plain, tied and untied; policy, KL, entropy and correction terms with all rows, or policy and
    correction without the two rows that have no advantage; a last step that is cut short."""
    found = measure(layouts)
    assert len(found) == count
    wrong = {layout.name(): error for layout, error in found.items() if not error <= TOLERANCE}
    assert not wrong


def test_any_three_settings_occur_together():
    """Counted by hand: ranks 2, micro 4, stage 3, offload 2, order 2, packing 2, and dynamic batching always packs."""
    chosen = covering(all_layouts())
    for names, count in {("ranks", "stage", "offload"): 12, ("micro", "packing", "stage"): 21}.items():
        assert len({tuple(getattr(layout, name) for name in names) for layout in chosen}) == count


def test_a_few_layouts_with_every_divisor():
    found = measure_cases([(layout, Terms(divisor=divisor)) for divisor in DIVISORS for layout in SMALL])
    wrong = {
        (layout.name(), terms.divisor): error for (layout, terms), error in found.items() if not error <= TOLERANCE
    }
    assert not wrong and len(found) == 12


@pytest.mark.parametrize("alone", [False, True])
def test_the_loss_of_every_preset(alone):
    """With KL, entropy and correction, or alone, so that rows leave the step.

    One rank with micro-batches of a single row, most without a demonstration token and, where demonstrations are
    whole, some without any other; two ranks with dynamic ones.
    """
    layouts = [SMALL[0], SMALL[3]]
    of_preset = {
        name: Terms(
            divisor=row.divisor,
            clip=row.clip,
            imitation=row.imitation,
            imitation_mean=row.imitation_mean,
            convex=row.convex,
            whole=row.demonstration == "whole" or row.rescue != "none",
            teacher_coef=row.teacher_coef,
            contrast=row.contrast_rule != "none",
            **(ALONE if alone else {}),
        )
        for name, row in PRESETS.items()
    }
    of_preset |= {name: replace(of_preset["sft_f"], imitation=name) for name in IMITATION if name.startswith("f_")}
    assert {terms.imitation for terms in of_preset.values()} == {POLICY, *IMITATION}
    found = measure_cases([(layout, terms) for terms in set(of_preset.values()) for layout in layouts])
    worst = {name: max(found[layout, terms] for layout in layouts) for name, terms in of_preset.items()}
    assert max(worst.values()) <= TOLERANCE, worst


def test_on_policy_rows_need_no_log_probs_from_before_the_step():
    """One optimizer step of the eight rows, whose old log-probs are NaN; the reference has them, its ratios are 1."""
    found = measure(SMALL, Terms(on_policy=True, **ALONE), rows=STEP_ROWS)
    assert max(found.values()) <= TOLERANCE


def test_openrlhf_still_needs_the_mend():
    """If this fails, upstream has mended it, and accumulation.py can go. Dynamic batching below ZeRO-3 keeps the last
    micro-batch alone (with offload it drops the first); everything else is right on whole steps, and a step that is
    cut short is never applied."""
    dynamic = Layout(1, 0, True)
    lost = [replace(dynamic, stage=2), replace(dynamic, stage=1), replace(dynamic, stage=2, offload=True)]
    right = [dynamic, Layout(1, 2, stage=2), Layout(1, 2, stage=2, offload=True)]
    whole = measure([*lost, *right], upstream=True, rows=STEP_ROWS)
    assert all(whole[layout] > 0.1 for layout in lost)
    assert all(whole[layout] <= TOLERANCE for layout in right)
    assert measure([right[1]], upstream=True)[right[1]] > 0.1
