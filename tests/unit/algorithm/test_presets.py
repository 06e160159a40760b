"""The table of methods: every name in it exists, and rows collapse to each other where the methods do."""

import pytest
import torch

from openrlhf_prefix.algorithm.advantages import BASELINES, ESTIMATORS, group_advantages
from openrlhf_prefix.algorithm.controllers import CONTROLLERS
from openrlhf_prefix.algorithm.imitation import IMITATION, POLICY
from openrlhf_prefix.algorithm.losses import DIVISORS
from openrlhf_prefix.algorithm.presets import ALL, PRESETS, TENTH, Preset
from openrlhf_prefix.settings.flags import DEMONSTRATIONS, MEANS, RESCUES, SAMPLED


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_field_of_a_row_is_a_legal_value(preset: Preset) -> None:
    assert preset.estimator in ESTIMATORS and preset.baseline in BASELINES and preset.divisor in DIVISORS
    assert preset.prefixed_per_group >= ALL and 0.0 <= preset.keep <= 1.0
    assert preset.imitation == POLICY or preset.imitation in IMITATION
    assert preset.demonstration in DEMONSTRATIONS and preset.imitation_mean in MEANS and preset.source
    assert preset.sft_imitation in IMITATION and preset.sft_validate >= TENTH
    assert preset.rescue in RESCUES and preset.sampled in SAMPLED and preset.controller in CONTROLLERS


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_row_has_advantages_for_its_own_groups(preset: Preset) -> None:
    """A group of 8 with the row's number of prefixed slots; raises where estimator and baseline do not go together."""
    count = 8 if preset.prefixed_per_group == ALL else preset.prefixed_per_group
    prefixed = torch.arange(8).unsqueeze(0) >= 8 - count
    result = group_advantages(torch.rand(1, 8), prefixed, preset.estimator, preset.baseline)
    assert (result.prefix != 0).sum() <= count


def test_prefix_rft_is_the_papers_setting() -> None:
    """Appendix A.2: one of N rows prefixed, Dr. GRPO, top 20 % of the prefix tokens; plain rows are the baseline."""
    row = PRESETS["prefix_rft"]
    assert (row.prefixed_per_group, row.estimator, row.baseline, row.keep) == (1, "dr_grpo", "plain", 0.2)


def test_rft_has_no_prefixed_row() -> None:
    assert PRESETS["rft"].prefixed_per_group == 0


def test_prefix_rft_without_a_prefixed_row_is_rft() -> None:
    """Its baseline rows are then all rows. Rewards 1 0 0 0: +0.75 and -0.25 under both."""
    rewards, prefixed = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    rows = [PRESETS["prefix_rft"], PRESETS["rft"]]
    results = [group_advantages(rewards, prefixed, row.estimator, row.baseline) for row in rows]
    assert [result.continuation[0].tolist() for result in results] == [[0.75, -0.25, -0.25, -0.25]] * 2
    assert not any(result.prefix.any() for result in results) and rows[0].divisor == rows[1].divisor
