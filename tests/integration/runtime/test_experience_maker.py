"""Advantages of a rollout batch do not depend on how its rows are split into forward batches."""

import math
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")

from openrlhf_prefix.runtime.platform import adapter

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402

from openrlhf_prefix.algorithm.controllers import CONTROLLERS, Settings  # noqa: E402
from openrlhf_prefix.algorithm.hybrid import LossRows, StepCounts  # noqa: E402
from openrlhf_prefix.algorithm.schedules import PrefixSchedule  # noqa: E402
from openrlhf_prefix.algorithm.trust import Trust  # noqa: E402
from openrlhf_prefix.errors import RunStopped  # noqa: E402
from openrlhf_prefix.runtime.controller.experience_maker import PrefixExperienceMaker, Rollouts  # noqa: E402
from openrlhf_prefix.runtime.controller.reference import refer  # noqa: E402
from openrlhf_prefix.runtime.controller.rollout_metrics import reward_by_ratio  # noqa: E402
from openrlhf_prefix.runtime.rows.loss import hybrid_loss, trained_tokens  # noqa: E402
from openrlhf_prefix.settings.resolve import flags_of  # noqa: E402

GROUP, LENGTH = 4, 12
REWARDS = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
PREFIXES = [0, 0, 0, 7, 0, 0, 0, 10]


def maker(keep: float = 0.2, scope: str = "batch") -> PrefixExperienceMaker:
    made = object.__new__(PrefixExperienceMaker)
    made.args = SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=GROUP, max_new_tokens=LENGTH),
        hybrid=SimpleNamespace(estimator="dr_grpo", baseline="plain", sampled="advantage", gate=0, imitation="policy"),
        prefix=SimpleNamespace(keep=keep, scope=scope),
        reward=SimpleNamespace(
            clip_range=None,
            overlong_buffer_len=None,
            stop_properly_penalty_coef=None,
            on_error="mask",
            error_limit=0.5,
        ),
        algo=SimpleNamespace(kl=SimpleNamespace(use_loss=False)),
        teacher=SimpleNamespace(on="all"),
    )
    made.kl_ctl = SimpleNamespace(value=0.0)
    made.controller, made.trust = CONTROLLERS["on_failure"](Settings(PrefixSchedule())), None
    made.initial_model_group = None
    return made


def each(entropy: torch.Tensor) -> list[torch.Tensor]:
    """That of the rows, one by one."""
    return list(entropy.split(1))


def rows() -> tuple[list[Experience], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    entropy = torch.rand(8, LENGTH, generator=generator)
    entropy[3] += 0.2  # so that row by row 2 of its tokens would be kept, and over the batch 3
    made = [
        Experience(
            sequences=torch.ones(1, LENGTH + 1, dtype=torch.long),
            attention_mask=torch.ones(1, LENGTH + 1, dtype=torch.long),
            action_mask=torch.ones(1, LENGTH, dtype=torch.bool),
            action_log_probs=torch.full((1, LENGTH), -0.5),
            kl=torch.zeros(1, LENGTH),
            rewards=torch.tensor([REWARDS[number]]),
            response_length=torch.tensor([LENGTH]),
            truncated=torch.zeros(1),
            index=[number],
            prompts=[f"problem {number // GROUP}"],
            info={
                "prefix_length": torch.tensor([PREFIXES[number]]),
                "prefix_ratio": torch.tensor([PREFIXES[number] / 20]),
                "reward_failed": torch.tensor([False]),
                "format": torch.tensor([float(number)]),  # of the user's reward
            },
        )
        for number in range(8)
    ]
    return made, entropy


def advantages(split: list[list[int]]) -> torch.Tensor:
    """(8, A) advantages of the rows in their own order, made from this split of them."""
    singles, entropy = rows()
    made = maker()
    batches = [Experience.concat_experiences([singles[number] for number in part], 0) for part in split]
    out = torch.empty(8, LENGTH)
    for experience in made.with_advantages(batches, [entropy[part] for part in split]).experiences:
        out[torch.tensor(experience.index)] = experience.advantages
    return out


@pytest.mark.parametrize(
    "split", [[[n] for n in range(8)], [[0, 1, 2], [3, 4, 5, 6, 7]], [[7, 2, 4], [3, 0], [6, 5, 1]]]
)
def test_the_split_into_forward_batches_changes_nothing(split: list[list[int]]) -> None:
    assert torch.equal(advantages(split), advantages([list(range(8))]))


def test_groups_and_selection_by_hand() -> None:
    """Group 0: plain rewards 1 0 0, mean 1/3, prefixed 1. Group 1: all 0. Of 17 prefix tokens ceil(3.4) = 4 are kept,
    the ones of highest entropy over both rows."""
    found, (_, entropy) = advantages([list(range(8))]), rows()
    assert found[0].tolist() == pytest.approx([2 / 3] * LENGTH)
    assert found[1].tolist() == pytest.approx([-1 / 3] * LENGTH)
    assert found[3, 7:].tolist() == pytest.approx([2 / 3] * 5)
    assert found[4:].eq(0).all()
    candidates = sorted(
        [(float(entropy[3, t]), 3, t) for t in range(7)] + [(float(entropy[7, t]), 7, t) for t in range(10)]
    )
    kept = {t for _, number, t in candidates[-4:] if number == 3}
    assert {t for t in range(7) if found[3, t] != 0} == kept and len(kept) == 3


def test_trust_is_told_of_the_prefixed_rows_whose_reward_is_known() -> None:
    """Row 3 was right from demonstration 2, row 7 wrong from 1 at half of it: 1 and 1 / 1.5. A failed reward of both
    says nothing."""
    made = maker()
    made.trust = Trust(1.0)
    for failed in (False, True):
        singles, entropy = rows()
        for number, row in enumerate(singles):
            row.info["demonstration"] = torch.tensor([{3: 2, 7: 1}.get(number, -1)])
            row.info["reward_failed"] = torch.tensor([failed and number in (3, 7)])
        part = [6, 3, 1, 0, 7, 2, 5, 4]
        batch = Experience.concat_experiences([singles[number] for number in part], 0)
        metrics = made.with_advantages([batch], [entropy[part]]).metrics
        assert made.trust.seen == {"problem 0": {2: (1.0, 0.0)}, "problem 1": {1: (0.0, 0.5)}}
        assert metrics["prefix/trust"] == pytest.approx((1 + 1 / 1.5) / 2) and "demonstration" not in metrics


def test_kl_in_the_reward_is_that_of_sampled_tokens() -> None:
    """0.1 x 0.5 a sampled token, summed to the end of the row: a plain row of 12 starts at 2/3 - 0.6, a continuation
    of 5 at 2/3 - 0.25. A KL of 1000 on each prefix token changes nothing, there or behind it."""
    singles, entropy = rows()
    made, experience = maker(), Experience.concat_experiences(singles, 0)
    made.kl_ctl.value = 0.1
    experience.kl = torch.full((8, LENGTH), 0.5)
    experience.kl[3, :7] = experience.kl[7, :10] = 1000.0
    (found,) = made.with_advantages([experience], [entropy]).experiences
    assert found.advantages[0].tolist() == pytest.approx([2 / 3 - 0.05 * left for left in range(12, 0, -1)], abs=1e-6)
    assert found.advantages[3, 7:].tolist() == pytest.approx(
        [2 / 3 - 0.05 * left for left in range(5, 0, -1)], abs=1e-6
    )
    kept = found.advantages[3, :7]
    assert kept[kept != 0].tolist() == pytest.approx([2 / 3] * 3)


def test_metrics_know_prefixes_from_continuations() -> None:
    made, (singles, entropy) = maker(), rows()
    metrics = made.with_advantages(singles, each(entropy)).metrics
    assert metrics["rollout/response_length_mean"] == pytest.approx((6 * 12 + 5 + 2) / 8)
    assert metrics["reward/plain"] == pytest.approx(1 / 6) and metrics["reward/prefixed"] == 0.5
    assert metrics["prefix/kept"] == pytest.approx(4 / 17)
    assert metrics["prefix/reward_0.25_0.5"] == 1.0 and metrics["prefix/reward_0.5_0.75"] == 0.0
    assert metrics["prefix/reward_0_0.25"] is None
    assert metrics["format"] == 3.5 and metrics["reward/failed"] == 0


def test_prefixes_that_are_right_by_themselves_are_a_share_of_those_that_were_tried() -> None:
    """Of rows 3 and 7, which have prefixes, row 3's solves its problem; the plain rows bring no such number."""
    made, (singles, entropy) = maker(), rows()
    for number, single in enumerate(singles):
        single.info["solves_alone"] = torch.tensor([{3: 1.0, 7: 0.0}.get(number, math.nan)])
    metrics = made.with_advantages(singles, each(entropy)).metrics
    assert metrics["prefix/solves_alone"] == 0.5 and "solves_alone" not in metrics
    untried, entropy = rows()
    assert "prefix/solves_alone" not in made.with_advantages(untried, each(entropy)).metrics


@pytest.mark.parametrize(("imitation", "trained"), [("policy", 36 + 5 + 3), ("luffy", 44), ("nll", 36 + 5 + 7 + 10)])
def test_tokens_are_counted_where_they_are_sampled_and_where_they_have_a_gradient(
    imitation: str, trained: int
) -> None:
    """Sampled: 6 rows of 12, 12 - 7 and 12 - 10. Group 0 has advantages, group 1 none: 3 plain rows of 12, and the 5
    and the 3 kept of row 3; an imitation that asks for no advantage trains both prefixes, 7 and 10, whole."""
    made, (singles, entropy) = maker(), rows()
    made.args.hybrid.imitation = imitation
    found = made.with_advantages(singles, each(entropy))
    assert found.metrics["rollout/tokens_generated"] == 79
    sizes = {"actor.num_gpus_per_node": 1, "vllm.num_engines": 1, "train.batch_size": 8, "train.micro_batch_size": 1}
    sizes |= {"rollout.batch_size": 2, "rollout.n_samples_per_prompt": GROUP, "rollout.max_new_tokens": LENGTH}
    args = flags_of({"reward.remote_url": "math-verify", "hybrid.imitation": imitation, "prefix.keep": 1.0, **sizes})
    assert sum(trained_tokens(row, hybrid_loss(args)) for row in found.experiences) == trained


def test_rewards_fall_into_half_open_buckets() -> None:
    found = reward_by_ratio(torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 0.25, 0.3, 1.0]))
    assert list(found.values()) == [1.0, 0.5, None, 1.0]


def failing(on_error: str, numbers: list[int], rewards: dict[int, float] | None = None) -> Rollouts:
    """A batch in which the rewards of some rows failed."""
    made, (singles, entropy) = maker(), rows()
    made.args.reward.on_error = on_error
    for number, single in enumerate(singles):
        single.info["reward_failed"] = torch.tensor([number in numbers])
        single.rewards = torch.tensor([(rewards or {}).get(number, REWARDS[number])])
        if number in numbers:
            single.info["format"] = torch.tensor([float("nan")])
    return made.with_advantages(singles, each(entropy))


def test_a_masked_row_leaves_its_group_the_selection_and_the_metrics() -> None:
    """Row 0, rewarded 1, failed: the plain mean of its group is that of 0 and 0, so the prefixed row has advantage 1.
    Row 7, with 10 prefix tokens, failed too: ceil(0.2 * 7) = 2 of the other row's 7 are kept."""
    found = failing("mask", [0, 7])
    advantage = [experience.advantages[0] for experience in found.experiences]
    assert advantage[0].eq(0).all() and advantage[7].eq(0).all()
    assert advantage[1].eq(0).all() and advantage[3][7:].eq(1).all()
    assert int((advantage[3][:7] == 1).sum()) == 2
    assert found.metrics["reward/failed"] == 2 and found.metrics["reward/prefixed"] == 1.0
    assert found.metrics["reward/plain"] == 0.0 and found.metrics["format"] == pytest.approx(21 / 6)


def test_zero_counts_a_failed_row_as_wrong() -> None:
    """Row 0 now has reward 0 and stays in: plain mean 0, advantage of the prefixed row 1, of row 0 itself 0."""
    found = failing("zero", [0], rewards={0: 0.0})
    assert found.experiences[0].advantages.eq(0).all() and found.experiences[3].advantages[0, 7:].eq(1).all()
    assert found.metrics["reward/failed"] == 1 and found.metrics["reward"] == pytest.approx(1 / 8)


def test_a_reward_that_is_no_number_failed_too() -> None:
    found = failing("mask", [], rewards={0: float("nan")})
    assert found.metrics["reward/failed"] == 1 and found.experiences[0].advantages.eq(0).all()
    assert found.experiences[3].advantages[0, 7:].eq(1).all()
    with pytest.raises(RunStopped, match="5 of 8 rewards are not finite"):
        failing("mask", [], rewards={number: float("inf") for number in range(5)})


def test_a_group_without_a_known_plain_row_trains_nothing() -> None:
    found = failing("mask", [0, 1, 2])
    assert all(experience.advantages.eq(0).all() for experience in found.experiences[:4])


def test_controller_and_rescue_are_told_of_every_group() -> None:
    """Group 0: 2 of 4 right, one of them plain. Group 1: none; with a gate of 2 both are too few."""
    made, (singles, entropy) = maker(), rows()
    found = made.with_advantages([Experience.concat_experiences(singles[::-1], 0)], [entropy.flip(0)])
    assert found.failed == {1: "problem 1"} and made.controller.failed == {"problem 1"}
    made.args.hybrid.gate = 2
    found = made.with_advantages([Experience.concat_experiences(rows()[0], 0)], [entropy])
    assert found.failed == {0: "problem 0", 1: "problem 1"}


def test_a_group_of_unknown_rewards_did_not_fail() -> None:
    found = failing("mask", [0, 1, 2, 3])
    assert found.failed == {1: "problem 1"}


def test_srft_weights_sampled_rows_by_their_entropy() -> None:
    """Right: 0.1 e^H with H the row's mean entropy; wrong: -1. The prefixed row has its group advantage, (1 - 1/2)
    over the standard deviation of 1 0 0 1, on its prefix."""
    made, (singles, entropy) = maker(keep=1.0), rows()
    flags = made.args.hybrid
    flags.estimator, flags.baseline, flags.sampled = "grpo", "all", "likelihood"
    batch = made.with_advantages(singles, each(entropy)).experiences
    assert batch[0].advantages[0].tolist() == pytest.approx([0.1 * math.exp(entropy[0].mean())] * LENGTH)
    assert batch[1].advantages[0].tolist() == [-1.0] * LENGTH
    assert batch[3].advantages[0, :7].tolist() == pytest.approx([0.5 / (1 / 3) ** 0.5] * 7, rel=1e-4)


def test_own_right_samples_are_reinforce_with_a_reward_of_0_or_1() -> None:
    """One sample a problem, drawn anew for each step, of a softmax policy at every token: the gradient of the
    likelihood of right samples over rows x budget is that of -R sum(log p) by autograd, without a ratio."""
    made, (singles, _) = maker(), rows()
    flags = made.args.hybrid
    flags.baseline, flags.sampled, made.args.rollout.n_samples_per_prompt = "all", "right", 1
    unseen = [torch.full((1, LENGTH), math.nan)] * 8  # nobody asks for entropies
    for single in singles:
        single.info["prefix_length"], single.info["prefix_ratio"] = torch.tensor([0]), torch.tensor([0.0])
    batch = made.with_advantages(singles, unseen).experiences
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(5, (8, LENGTH, 1), generator=generator)
    logits = torch.randn(8, LENGTH, 5, generator=generator, dtype=torch.float64).requires_grad_()
    log_probs = logits.log_softmax(-1).gather(-1, tokens).squeeze(-1)
    by_hand = -(torch.tensor(REWARDS).unsqueeze(1) * log_probs).sum() / (8 * LENGTH)
    (wanted,) = torch.autograd.grad(by_hand, logits, retain_graph=True)
    settings = {"hybrid.preset": "self_sft", "rollout.n_samples_per_prompt": 1, "rollout.batch_size": 8}
    settings |= {"rollout.max_new_tokens": LENGTH, "actor.num_gpus_per_node": 1, "vllm.num_engines": 1}
    loss = hybrid_loss(flags_of({**settings, "train.batch_size": 8, "reward.remote_url": "math-verify"}))
    advantages = torch.cat([one.advantages for one in batch])
    action = torch.ones(8, LENGTH, dtype=torch.bool)
    old = log_probs.detach() - 2.0  # ratios of e^2 would show
    given = LossRows(log_probs, old, advantages.double(), action, action & False)
    loss(given, StepCounts(8.0, 8.0 * LENGTH, 8.0 * LENGTH))[0].backward()
    torch.testing.assert_close(logits.grad, wanted)


def test_the_reference_is_asked_about_batches_with_a_demonstration_token() -> None:
    """Rows 3 and 7 start from one: theirs are the reference's log-probs, the others hold zeros."""
    singles, _ = rows()
    asked = []

    def log_probs(batches: list[Experience], group: str) -> list[torch.Tensor]:
        asked.append((group, [batch.index for batch in batches]))
        return [torch.full(batch.action_mask.shape, -1.0 - batch.index[0]) for batch in batches]

    refer(singles, SimpleNamespace(log_probs=log_probs, reference="the frozen model"))
    assert asked == [("the frozen model", [[3], [7]])]
    found = torch.cat([single.base_action_log_probs for single in singles])
    assert found[:, 0].tolist() == [0, 0, 0, -4, 0, 0, 0, -8] and found.shape == (8, LENGTH)
    refer(singles[:3], SimpleNamespace(log_probs=log_probs))  # no group is needed where nothing is asked
    assert len(asked) == 1


def normalised(
    prefixes: bool, no_std_norm: bool = False
) -> tuple[PrefixExperienceMaker, list[Experience], list[torch.Tensor]]:
    """A maker with reinforce_baseline, and its rows, of other lengths each, with their entropies."""
    made, (singles, entropy) = maker(keep=1.0), rows()
    made.args.hybrid.estimator, made.args.hybrid.baseline = "reinforce_baseline", "all"
    made.advantage_estimator = "reinforce_baseline"
    made.args.algo.advantage = SimpleNamespace(estimator="reinforce_baseline", gamma=1.0, no_std_norm=no_std_norm)
    made.strategy = SimpleNamespace(args=made.args)
    for single, length in zip(singles, (12, 7, 6, 9, 12, 3, 8, 11), strict=True):
        single.action_mask = torch.arange(LENGTH).unsqueeze(0) < length
        if not prefixes:
            single.info["prefix_length"] = torch.tensor([0])
    return made, singles, each(entropy)


@pytest.mark.parametrize("no_std_norm", [False, True])
def test_without_prefixes_reinforce_baseline_is_upstreams(no_std_norm: bool) -> None:
    made, singles, entropies = normalised(prefixes=False, no_std_norm=no_std_norm)
    ours = made.with_advantages(singles, entropies).experiences
    _, singles, _ = normalised(prefixes=False)
    theirs = RemoteExperienceMaker.compute_advantages_and_returns(made, singles)
    for mine, upstream in zip(ours, theirs, strict=True):
        expected = upstream.advantages * upstream.action_mask
        torch.testing.assert_close(mine.advantages, expected, rtol=1e-5, atol=1e-6)
    assert all(row.advantages.any() for row in ours[4:]), "a group of equal rewards is moved by the batch's mean"


def of_sampled(batch: list[Experience], known: list[int]) -> torch.Tensor:
    """Advantages of all tokens of these rows that the policy wrote."""
    return torch.cat([batch[n].advantages[0, PREFIXES[n] : int(batch[n].action_mask.sum())] for n in known])


def test_reinforce_baseline_takes_its_statistics_from_sampled_tokens() -> None:
    """After it the sampled tokens of the batch have mean 0 and std 1; a prefix token has its row's advantage."""
    made, singles, entropies = normalised(prefixes=True)
    batch = made.with_advantages(singles, entropies).experiences
    sampled = of_sampled(batch, list(range(8)))
    assert sampled.mean().item() == pytest.approx(0, abs=1e-6)
    assert sampled.std(correction=0).item() == pytest.approx(1)
    assert batch[3].advantages[0, :9].unique().numel() == 1 and not batch[3].advantages[0, 9:].any()


def test_reinforce_baseline_leaves_a_failed_row_out() -> None:
    made, singles, entropies = normalised(prefixes=True)
    singles[1].info["reward_failed"] = torch.tensor([True])
    batch = made.with_advantages(singles, entropies).experiences
    sampled = of_sampled(batch, [0, 2, 3, 4, 5, 6, 7])
    assert sampled.mean().item() == pytest.approx(0, abs=1e-6) and not batch[1].advantages.any()


@pytest.mark.parametrize(("known", "nan", "stops"), [(6, 0, False), (0, 4, False), (0, 5, True), (3, 4, False)])
def test_rewards_that_failed_before_are_not_counted_again(known: int, nan: int, stops: bool) -> None:
    """The limit is half of 8 rows. What failed at the engines was held against all rows that they were asked for."""
    singles, entropy = rows()
    for row in singles[:known]:
        row.info["reward_failed"] = torch.tensor([True])
    for row in singles[known : known + nan]:
        row.rewards = torch.tensor([math.nan])
    if stops:
        with pytest.raises(RunStopped, match="5 of 8 rewards are not finite"):
            maker().with_advantages(singles, each(entropy))
    else:
        maker().with_advantages(singles, each(entropy))
        assert sum(bool(row.info["reward_failed"]) for row in singles) == known + nan
