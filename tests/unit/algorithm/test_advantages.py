"""Advantages of a group by hand. In every example the last row is the prefixed one unless said otherwise."""

import math

import pytest
import torch

from openrlhf_prefix.algorithm.advantages import (
    BASELINES,
    ESTIMATORS,
    GroupAdvantages,
    group_advantages,
    normalized,
    sampled_weights,
)

SYMMETRIC = [(estimator, "all") for estimator in ("dr_grpo", "grpo", "rloo")]
ALL_PAIRS = SYMMETRIC + [(estimator, "plain") for estimator in ESTIMATORS]


def last_prefixed(plain: list[float], hybrid: float, estimator: str, baseline: str) -> GroupAdvantages:
    prefixed = torch.zeros(1, len(plain) + 1, dtype=torch.bool)
    prefixed[0, -1] = True
    return group_advantages(torch.tensor([[*plain, hybrid]]), prefixed, estimator, baseline)


def near(expected: list[float]) -> object:
    return pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("plain", "hybrid", "plain_advantages", "continuation", "prefix"),
    [
        ([1, 0, 0, 0], 1, [0.75, -0.25, -0.25, -0.25], 1.0, 0.75),
        ([1, 0, 0, 0], 0, [0.75, -0.25, -0.25, -0.25], 0.0, -0.25),
        ([1, 1, 1, 1], 0, [0, 0, 0, 0], 0.0, -1.0),
        ([0, 0, 0, 0, 0, 0, 0], 1, [0, 0, 0, 0, 0, 0, 0], 1.0, 1.0),
        ([1, 1, 1, 1], 1, [0, 0, 0, 0], 1.0, 0.0),
    ],
)
def test_dr_grpo_prefix_gives_the_vectors_of_the_method_notes(
    plain: list[float], hybrid: float, plain_advantages: list[float], continuation: float, prefix: float
) -> None:
    """m = mean of the plain rows (1/4, 1/4, 1, 0, 1): plain R - m, continuation R, prefix R - m."""
    result = last_prefixed(plain, hybrid, "dr_grpo_prefix", "plain")
    assert result.continuation[0].tolist() == near([*plain_advantages, continuation])
    assert result.prefix[0].tolist() == near([0.0] * len(plain) + [prefix])


@pytest.mark.parametrize(("hybrid", "prefix"), [(1, 0.75), (0, -0.25)])
def test_grpo_prefix_scales_the_plain_rows_only(hybrid: float, prefix: float) -> None:
    """Plain 1 0 0 0: m = 1/4, squares 9/16 + 3/16 = 3/4, / 3 = 1/4, std 1/2: 0.75 / 0.5 = 1.5 and -0.5.

    The continuation is a group of its own (std := 1, not centred): R. The prefix is R - m, unscaled.
    """
    result = last_prefixed([1, 0, 0, 0], hybrid, "grpo_prefix", "plain")
    assert result.continuation[0].tolist() == near([1.5, -0.5, -0.5, -0.5, hybrid])
    assert result.prefix[0].tolist() == near([0, 0, 0, 0, prefix])


@pytest.mark.parametrize(
    ("estimator", "baseline", "expected"),
    [
        # mean 2/5
        ("dr_grpo", "all", [0.6, -0.4, -0.4, -0.4, 0.6]),
        # mean of the plain rows 1/4
        ("dr_grpo", "plain", [0.75, -0.25, -0.25, -0.25, 0.75]),
        # squares 2 * 0.36 + 3 * 0.16 = 1.2, / 4 = 0.3, std 0.5477226: 0.6 / std = 1.0954451, -0.4 / std = -0.7302967
        ("grpo", "all", [1.0954451, -0.7302967, -0.7302967, -0.7302967, 1.0954451]),
        # std of the plain rows 1/2
        ("grpo", "plain", [1.5, -0.5, -0.5, -0.5, 1.5]),
        # others of a 1: 1/4; others of a 0: 2/4
        ("rloo", "all", [0.75, -0.5, -0.5, -0.5, 0.75]),
        # plain others of the plain 1: 0/3; of a plain 0: 1/3; of the prefixed row all four: 1/4
        ("rloo", "plain", [1.0, -1 / 3, -1 / 3, -1 / 3, 0.75]),
    ],
)
def test_the_symmetric_estimators_by_hand(estimator: str, baseline: str, expected: list[float]) -> None:
    """Rewards 1 0 0 0 | 1. The prefix has the advantage of its row."""
    result = last_prefixed([1, 0, 0, 0], 1, estimator, baseline)
    assert result.continuation[0].tolist() == near(expected)
    assert result.prefix[0].tolist() == near([0, 0, 0, 0, expected[-1]])


def test_the_standard_deviation_is_unbiased() -> None:
    """Rewards 0 and 2: squares 1 + 1, / (2 - 1), std sqrt(2): -+1 / 1.4142136 = -+0.7071068. Biased: -+1."""
    result = group_advantages(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2), "grpo", "all")
    assert result.continuation[0].tolist() == near([-0.7071068, 0.7071068])


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        # mean of 2 and 6 is 4
        ("dr_grpo", [-2, 2, 5, -4]),
        # squares 4 + 4 over 1 = 8, std 2.8284271: -0.7071068, 0.7071068, 5 / std = 1.7677670, -4 / std = -1.4142136
        ("grpo", [-0.7071068, 0.7071068, 1.7677670, -1.4142136]),
        # the one other plain row: 6, 2; both plain rows: 4, 4
        ("rloo", [-4, 4, 5, -4]),
    ],
)
def test_two_prefixed_rows_are_compared_with_the_plain_rows_and_not_with_each_other(
    estimator: str, expected: list[float]
) -> None:
    """Plain 2 6, prefixed 9 0."""
    rewards, prefixed = torch.tensor([[2.0, 6.0, 9.0, 0.0]]), torch.tensor([[0, 0, 1, 1]])
    assert group_advantages(rewards, prefixed, estimator, "plain").continuation[0].tolist() == near(expected)


def test_groups_do_not_see_each_other_and_may_have_prefixed_rows_anywhere() -> None:
    """Group 0: plain rows 1 and 2 (0, 1), m = 1/2, prefixed row 0 rewarded 1. Group 1 has no prefixed row, m = 2/3."""
    rewards, prefixed = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0], [0, 0, 0]])
    result = group_advantages(rewards, prefixed, "dr_grpo_prefix", "plain")
    assert result.continuation[0].tolist() == near([1.0, -0.5, 0.5])
    assert result.continuation[1].tolist() == near([1 / 3, 1 / 3, -2 / 3])
    assert result.prefix.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("estimator", ["dr_grpo", "grpo", "rloo"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -3.7])
def test_equal_rewards_give_no_advantage(estimator: str, baseline: str, reward: float) -> None:
    """0.1 is no binary fraction: a mean of seven is off by an ulp, which a division by 1e-6 would blow up."""
    result = last_prefixed([reward] * 6, reward, estimator, baseline)
    assert result.continuation.abs().max() < 1e-6 and result.prefix.abs().max() < 1e-6


@pytest.mark.parametrize(("estimator", "baseline"), ALL_PAIRS)
def test_a_group_of_one_plain_row_gives_zero(estimator: str, baseline: str) -> None:
    result = group_advantages(torch.tensor([[1.0]]), torch.tensor([[False]]), estimator, baseline)
    assert result.continuation.tolist() == [[0.0]] and result.prefix.tolist() == [[0.0]]


@pytest.mark.parametrize(("estimator", "baseline"), SYMMETRIC)
def test_a_group_of_one_prefixed_row_gives_zero_against_itself(estimator: str, baseline: str) -> None:
    result = group_advantages(torch.tensor([[1.0]]), torch.tensor([[True]]), estimator, baseline)
    assert result.continuation.tolist() == [[0.0]] and result.prefix.tolist() == [[0.0]]


@pytest.mark.parametrize("estimator", ["dr_grpo", "grpo", "rloo"])
def test_a_single_plain_row_has_no_scale(estimator: str) -> None:
    """Plain 0.25, prefixed 1: the plain row is its own mean (0), the prefixed row is 0.75 above, divided by 1."""
    result = last_prefixed([0.25], 1.0, estimator, "plain")
    assert result.continuation[0].tolist() == near([0.0, 0.75])
    assert result.prefix[0].tolist() == near([0.0, 0.75])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_plain_baseline_needs_a_plain_row_in_every_group(estimator: str) -> None:
    prefixed = torch.tensor([[False, True], [True, True]])
    with pytest.raises(ValueError, match="needs a plain row in every group"):
        group_advantages(torch.rand(2, 2), prefixed, estimator, "plain")


@pytest.mark.parametrize("estimator", ["dr_grpo_prefix", "grpo_prefix"])
def test_a_prefix_estimator_needs_the_plain_baseline(estimator: str) -> None:
    with pytest.raises(ValueError, match="set baseline to 'plain'"):
        group_advantages(torch.rand(1, 3), torch.tensor([[0, 0, 1]]), estimator, "all")


def test_unknown_names_and_shapes_are_refused() -> None:
    rewards, prefixed = torch.rand(1, 3), torch.zeros(1, 3)
    with pytest.raises(ValueError, match="estimator is 'gae'.*dr_grpo, grpo, rloo"):
        group_advantages(rewards, prefixed, "gae", "all")
    with pytest.raises(ValueError, match="baseline is 'prefixed'.*all, plain"):
        group_advantages(rewards, prefixed, "grpo", "prefixed")
    for bad in (torch.zeros(3), torch.zeros(1, 2)):
        with pytest.raises(ValueError, match=r"must both be \(G, N\)"):
            group_advantages(rewards, bad)
    with pytest.raises(ValueError, match=r"must both be \(G, N\)"):
        group_advantages(torch.rand(3), torch.zeros(3))


@pytest.mark.parametrize(("estimator", "baseline"), ALL_PAIRS)
def test_the_prefix_advantage_is_zero_on_plain_rows_and_on_them_alone(estimator: str, baseline: str) -> None:
    """Rewards are distinct, so that no prefixed row can have the value 0 by chance."""
    rewards, prefixed = torch.tensor([[3.0, 1.0, 7.0, 0.0]]), torch.tensor([[False, True, False, True]])
    result = group_advantages(rewards, prefixed, estimator, baseline)
    assert (result.prefix != 0).equal(prefixed)


@pytest.mark.parametrize("estimator", ["dr_grpo", "grpo", "rloo"])
def test_without_prefixed_rows_the_two_baselines_are_one(estimator: str) -> None:
    rewards, prefixed = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 6)
    first, second = (group_advantages(rewards, prefixed, estimator, baseline) for baseline in BASELINES)
    assert first.continuation.equal(second.continuation) and first.continuation.abs().min() > 0
    assert not first.prefix.any() and not second.prefix.any()


@pytest.mark.parametrize("pair", [("dr_grpo_prefix", "dr_grpo"), ("grpo_prefix", "grpo")])
def test_without_prefixed_rows_a_prefix_estimator_is_its_symmetric_one(pair: tuple[str, str]) -> None:
    rewards, prefixed = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(5, 6)
    first, second = (group_advantages(rewards, prefixed, estimator, "plain") for estimator in pair)
    assert first.continuation.equal(second.continuation)


@pytest.mark.parametrize("estimator", ["dr_grpo", "rloo"])
def test_centred_advantages_of_the_baseline_rows_sum_to_zero(estimator: str) -> None:
    rewards = torch.rand(4, 8, generator=torch.Generator().manual_seed(2))
    result = group_advantages(rewards, torch.zeros(4, 8), estimator, "all")
    assert result.continuation.sum(-1).abs().max() < 1e-5


def test_rloo_is_dr_grpo_stretched_by_n_over_n_minus_one() -> None:
    """R - (S - R)/(n - 1) = n/(n - 1) (R - S/n)."""
    rewards, prefixed = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)), torch.zeros(4, 5)
    rloo, centred = (group_advantages(rewards, prefixed, name).continuation for name in ("rloo", "dr_grpo"))
    assert torch.allclose(rloo, centred * 5 / 4, atol=1e-6)


@pytest.mark.parametrize(("estimator", "baseline"), ALL_PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_rows_in_another_order_have_the_same_advantages(estimator: str, baseline: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.rand(3, 6, generator=generator)
    prefixed = torch.rand(3, 6, generator=generator) < 0.5
    prefixed[:, 0] = False
    order = torch.randperm(6, generator=generator)
    whole = group_advantages(rewards, prefixed, estimator, baseline)
    moved = group_advantages(rewards[:, order], prefixed[:, order], estimator, baseline)
    assert torch.allclose(moved.continuation, whole.continuation[:, order], atol=1e-5)
    assert torch.allclose(moved.prefix, whole.prefix[:, order], atol=1e-5)


def test_integer_and_half_precision_rewards_are_averaged_in_fp32() -> None:
    """Whole numbers 0 1 1: mean 2/3."""
    for dtype in (torch.int64, torch.bfloat16):
        result = group_advantages(torch.tensor([[0, 1, 1]], dtype=dtype), torch.zeros(1, 3))
        assert result.continuation[0].tolist() == near([-2 / 3, 1 / 3, 1 / 3])


def test_unknown_rewards_are_in_no_baseline_and_have_no_advantage() -> None:
    """Plain 1 ? 0 0 | prefixed 1: mean of the known plain rows 1/3. What stands in the unknown place is nothing."""
    prefixed = torch.tensor([[False, False, False, False, True]])
    valid = torch.tensor([[True, False, True, True, True]])
    for unknown in (0.0, 7.0, math.nan):
        rewards = torch.tensor([[1.0, unknown, 0.0, 0.0, 1.0]])
        found = group_advantages(rewards, prefixed, "dr_grpo", "plain", valid)
        assert found.continuation[0].tolist() == pytest.approx([2 / 3, 0, -1 / 3, -1 / 3, 2 / 3])
        assert found.prefix[0].tolist() == pytest.approx([0, 0, 0, 0, 2 / 3])


@pytest.mark.parametrize("estimator", ["dr_grpo", "grpo", "rloo", "dr_grpo_prefix", "grpo_prefix"])
def test_a_group_without_a_known_baseline_row_has_no_advantage(estimator: str) -> None:
    prefixed, valid = torch.tensor([[False, False, True]]), torch.tensor([[False, False, True]])
    found = group_advantages(torch.tensor([[1.0, 1.0, 1.0]]), prefixed, estimator, "plain", valid)
    assert found.continuation.eq(0).all() and found.prefix.eq(0).all()


@pytest.mark.parametrize("estimator", ["dr_grpo", "grpo", "rloo"])
def test_leaving_a_row_out_is_a_smaller_group(estimator: str) -> None:
    rewards, none = torch.tensor([[1.0, 0.0, 5.0, 0.5]]), torch.zeros(1, 4, dtype=torch.bool)
    valid = torch.tensor([[True, True, False, True]])
    left = group_advantages(rewards, none, estimator, "all", valid).continuation[valid]
    assert left.tolist() == pytest.approx(
        group_advantages(rewards[:, [0, 1, 3]], none[:, :3], estimator, "all").continuation[0].tolist()
    )


def test_srft_pushes_right_rows_by_their_entropy_and_wrong_ones_away() -> None:
    """0.1 e^H with H = 0 and log 3; -1 where the reward is 0."""
    rewards, entropy = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, math.log(3), math.log(3)]])
    assert sampled_weights("likelihood", rewards, entropy)[0].tolist() == near([0.1, 0.3, -1.0])
    assert sampled_weights("right", rewards, entropy)[0].tolist() == [1.0, 1.0, 0.0]


def test_reinforce_baseline_starts_from_the_centred_rewards() -> None:
    result = last_prefixed([1, 0, 0, 0], 1, "reinforce_baseline", "plain")
    assert result.continuation[0].tolist() == near([0.75, -0.25, -0.25, -0.25, 0.75])


@pytest.mark.parametrize(("scale", "expected"), [(True, [1, 1, -1, 0, -1, 2]), (False, [2, 2, -2, 0, -2, 4])])
def test_normalized_by_hand(scale: bool, expected: list[float]) -> None:
    """Sampled 3 3 -1 -1: mean 1, squares 4 * 4, / 4 = 4, std 2. The prefix token 5 moves along, (5 - 1) / 2; were it
    counted, the mean would be 1.8. The 9 is neither. The unbiased std would be 2.309."""
    values = torch.tensor([[3.0, 3.0, -1.0], [9.0, -1.0, 5.0]])
    sampled = torch.tensor([[True, True, True], [False, True, False]])
    prefix = torch.tensor([[False, False, False], [False, False, True]])
    assert normalized(values, sampled, prefix, scale).flatten().tolist() == near(expected)


def test_normalized_of_equal_or_no_tokens_is_zero() -> None:
    ones, none = torch.full((4,), 0.1), torch.zeros(4, dtype=torch.bool)
    assert normalized(ones, ~none, none).abs().max() < 1e-3
    assert normalized(ones, none, none).tolist() == [0.0] * 4
