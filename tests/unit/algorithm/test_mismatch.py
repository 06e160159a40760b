"""Weights pi_old / pi_rollout inside a band, by hand; prefix tokens were not sampled and stay out of it."""

import math

import pytest
import torch

from openrlhf_prefix.algorithm.mismatch import mismatch_weights

LIST = list[float]


def weigh(
    trainer: LIST,
    engine: LIST,
    mask: LIST | None = None,
    level: str = "token",
    mode: str = "mask",
    gating: str = "ratio",
    band: tuple[float, float] = (0.5, 2.0),
) -> tuple[LIST, list[bool]]:
    """Weights of one row whose tokens have these probabilities under the trainer and under the engine."""
    sampled = torch.tensor([mask or [1] * len(trainer)])
    old, rollout = torch.tensor([trainer]).log(), torch.tensor([engine]).log()
    weights, outside = mismatch_weights(old, rollout, sampled, level, mode, gating, *band)
    return weights[0].tolist(), outside[0].tolist()


def test_a_token_mask_drops_tokens_outside_the_band_and_weighs_the_rest() -> None:
    """w = 0.3/0.2 = 1.5, 0.08/0.2 = 0.4, 0.5/0.2 = 2.5, 0.12/0.2 = 0.6 in [0.5, 2]."""
    weights, outside = weigh([0.3, 0.08, 0.5, 0.12], [0.2] * 4)
    assert weights == pytest.approx([1.5, 0.0, 0.0, 0.6], abs=1e-5)
    assert outside == [False, True, True, False]


def test_a_token_clip_pulls_the_weights_to_the_edge_of_the_band() -> None:
    weights, outside = weigh([0.3, 0.08, 0.5, 0.12], [0.2] * 4, mode="clip")
    assert weights == pytest.approx([1.5, 0.5, 2.0, 0.6], abs=1e-5)
    assert outside == [False, True, True, False]


def test_the_row_statistic_is_the_geometric_mean() -> None:
    """w = 4 and 1/4: geometric mean 1, inside. The arithmetic mean 2.125 would be outside."""
    weights, outside = weigh([0.8, 0.1], [0.2, 0.4], level="seq")
    assert weights == pytest.approx([4.0, 0.25], abs=1e-5) and outside == [False, False]


@pytest.mark.parametrize("trainer", [[0.6, 0.6, 0.3], [0.02, 0.04, 0.04]])
def test_a_row_outside_the_band_is_dropped_whole(trainer: LIST) -> None:
    """w = 3, 3, 1.5: (13.5)^(1/3) = 2.38 > 2; w = 0.1, 0.2, 0.2: 0.004^(1/3) = 0.16 < 0.5."""
    weights, outside = weigh(trainer, [0.2] * 3, level="seq")
    assert weights == [0.0, 0.0, 0.0] and outside == [True] * 3


def test_rows_are_judged_one_by_one() -> None:
    """Row 0 has w = 3, row 1 w = 1.5."""
    old, rollout = torch.tensor([[0.6, 0.6], [0.3, 0.3]]).log(), torch.full((2, 2), 0.2).log()
    weights, outside = mismatch_weights(old, rollout, torch.ones(2, 2), "seq", "mask", "ratio", 0.5, 2.0)
    assert weights.flatten().tolist() == pytest.approx([0.0, 0.0, 1.5, 1.5], abs=1e-5)
    assert outside.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(("high", "expected"), [(0.15, 0.5), (0.14, 0.0)])
def test_the_binary_divergence_goes_from_the_engine_to_the_trainer(high: float, expected: float) -> None:
    """p = 0.5 (engine), q = 0.25: p ln(p/q) + (1-p) ln((1-p)/(1-q)) = ln(4/3)/2 = 0.1438; w = q/p = 0.5.

    The other direction, 0.25 ln(1/2) + 0.75 ln(3/2) = 0.1308, would pass 0.14.
    """
    weights, outside = weigh([0.25], [0.5], gating="binary_kl", band=(0.0, high))
    assert weights == pytest.approx([expected], abs=1e-5) and outside == [expected == 0.0]


@pytest.mark.parametrize(("high", "expected"), [(0.26, 0.5), (0.24, 0.0)])
def test_the_total_variation_is_the_difference_of_the_probabilities(high: float, expected: float) -> None:
    """|0.5 - 0.25| = 0.25."""
    weights, outside = weigh([0.25], [0.5], gating="tv", band=(0.0, high))
    assert weights == pytest.approx([expected], abs=1e-5) and outside == [expected == 0.0]


@pytest.mark.parametrize(("high", "expected"), [(0.16, [0.5, 0.9]), (0.14, [0.0, 0.0])])
def test_the_divergence_of_a_row_is_its_arithmetic_mean(high: float, expected: LIST) -> None:
    """(|0.5 - 0.25| + |0.5 - 0.45|) / 2 = 0.15."""
    weights, _ = weigh([0.25, 0.45], [0.5, 0.5], level="seq", gating="tv", band=(0.0, high))
    assert weights == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("gating", ["binary_kl", "tv"])
def test_certain_tokens_have_a_finite_divergence(gating: str) -> None:
    """Probability 1 on both sides: divergence 0, w = 1."""
    weights, outside = weigh([1.0, 1.0], [1.0, 1.0], gating=gating, band=(0.0, 0.01))
    assert weights == [1.0, 1.0] and outside == [False, False]


@pytest.mark.parametrize("gating", ["ratio", "binary_kl", "tv"])
@pytest.mark.parametrize("mode", ["mask", "clip"])
@pytest.mark.parametrize("level", ["token", "seq"])
def test_prefix_tokens_have_weight_one_and_are_never_outside(gating: str, mode: str, level: str) -> None:
    """The engine's value for a token that it did not sample is a filler: here 1e-30, with w beyond any band."""
    band = (0.5, 2.0) if gating == "ratio" else (0.0, 1e-9)
    weights, outside = weigh([0.9, 0.9, 0.6], [1e-30, 1e-30, 0.2], [0, 0, 1], level, mode, gating, band)
    assert weights[:2] == [1.0, 1.0] and outside == [False, False, True]


@pytest.mark.parametrize("filler", [0.0, 1e-30, 1.0])
@pytest.mark.parametrize(("gating", "band"), [("ratio", (0.5, 2.0)), ("binary_kl", (0, 0.15)), ("tv", (0, 0.26))])
@pytest.mark.parametrize("level", ["token", "seq"])
def test_prefix_tokens_have_no_part_in_the_rows_statistic(
    filler: float, gating: str, band: tuple[float, float], level: str
) -> None:
    """The one sampled token (0.25 against 0.5) lies inside each band by itself; log(0) = -inf must not leak either."""
    weights, outside = weigh([0.9, 0.25], [filler, 0.5], [0, 1], level, "mask", gating, band)
    assert weights == pytest.approx([1.0, 0.5], abs=1e-5) and outside == [False, False]


@pytest.mark.parametrize("gating", ["ratio", "binary_kl", "tv"])
@pytest.mark.parametrize("level", ["token", "seq"])
def test_nan_outside_the_mask_does_not_matter(gating: str, level: str) -> None:
    old, rollout = torch.tensor([[math.nan, -1.0]]), torch.tensor([[math.nan, -1.0]])
    low = 0.5 if gating == "ratio" else 0.0
    weights, outside = mismatch_weights(old, rollout, torch.tensor([[0, 1]]), level, "mask", gating, low, 2.0)
    assert weights.tolist() == [[1.0, 1.0]] and not outside.any()


def test_a_row_without_a_sampled_token_is_left_alone() -> None:
    weights, outside = weigh([0.9, 0.9], [0.1, 0.1], [0, 0], level="seq")
    assert weights == [1.0, 1.0] and outside == [False, False]


def test_the_edges_belong_to_the_band() -> None:
    """w = 1 exactly, band [1, 1]."""
    assert weigh([0.3], [0.3], band=(1.0, 1.0)) == ([1.0], [False])


def test_weights_carry_no_gradient() -> None:
    old = torch.tensor([[-1.0]], requires_grad=True)
    weights, _ = mismatch_weights(old, torch.tensor([[-1.1]]), torch.ones(1, 1), "token", "mask", "ratio", 0.5, 2.0)
    assert not weights.requires_grad
