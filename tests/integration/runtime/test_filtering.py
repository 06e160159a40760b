"""Dynamic filtering: which groups stay, in which order others come, and what failed rewards count over."""

from itertools import islice
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("openrlhf")
pytest.importorskip("vllm")

from openrlhf_prefix.runtime.platform import adapter  # noqa: E402

adapter.choose().install()

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402

from openrlhf_prefix.algorithm.presets import PRESETS  # noqa: E402
from openrlhf_prefix.errors import RunStopped  # noqa: E402
from openrlhf_prefix.runtime.controller.filtering import has_signal, with_signal  # noqa: E402
from openrlhf_prefix.runtime.controller.generator import PrefixSamplesGenerator  # noqa: E402

RIGHT, WRONG = 1.0, 0.0


def signal(preset: str, plain: list[float], prefixed: list[float]) -> bool:
    """Of one group: plain rows, then prefixed ones, which are whole demonstrations where the preset says so."""
    row = PRESETS[preset]
    rewards = torch.tensor([plain + prefixed])
    starts = torch.tensor([[False] * len(plain) + [True] * len(prefixed)])
    sampled = ~starts if row.demonstration == "whole" else torch.ones_like(starts)
    return bool(has_signal(rewards, starts, sampled, torch.ones_like(starts), row, row.keep))


@pytest.mark.parametrize(
    ("preset", "plain", "prefixed", "expected"),
    [
        ("rft", [RIGHT, WRONG], [], True),
        ("rft", [WRONG, WRONG], [], False),
        ("prefix_rft", [WRONG] * 7, [RIGHT], True),  # the prefix and what follows it: 1 - 0
        ("prefix_rft", [RIGHT] * 7, [RIGHT], False),
        ("prefix_rft", [RIGHT] * 7, [WRONG], True),
        # a demonstration that is right by itself, imitated in any case, beside seven wrong answers
        ("rft_with_sft_loss", [WRONG] * 7, [RIGHT], False),
        ("chord_mu", [WRONG] * 7, [RIGHT], False),
        ("rft_with_sft_loss", [RIGHT] + [WRONG] * 6, [RIGHT], True),
        ("luffy", [WRONG] * 7, [RIGHT], True),  # a member of its group: the wrong ones have -1/8
        ("srft", [WRONG] * 7, [RIGHT], False),  # sampled rows train once one is right
        ("srft", [RIGHT] * 7, [RIGHT], True),
    ],
)
def test_a_group_stays_where_a_token_has_an_advantage(preset, plain, prefixed, expected) -> None:
    assert signal(preset, plain, prefixed) == expected


def row(problem: str, reward: float, failed: bool = False) -> Experience:
    info = {"prefix_length": torch.tensor([0]), "reward_failed": torch.tensor([failed])}
    return Experience(
        prompts=[problem],
        rewards=torch.tensor([reward]),
        response_length=torch.tensor([5]),
        truncated=torch.tensor([False]),
        info=info,
    )


PENALTIES = {"overlong_buffer_len": None, "overlong_penalty_factor": 1.0, "stop_properly_penalty_coef": None}


def flags(limits: tuple[float, float] = (0.0, 1.0), **reward: object) -> SimpleNamespace:
    return SimpleNamespace(
        hybrid=PRESETS["rft"],
        prefix=SimpleNamespace(keep=0.0),
        reward=SimpleNamespace(**PENALTIES, **{"on_error": "mask", "error_limit": 0.1, **reward}),
        rollout=SimpleNamespace(n_samples_per_prompt=4),
        algo=SimpleNamespace(dynamic_filtering_range=limits),
    )


def group(problem: str, rewards: list[float], failed: int = 0) -> list[SimpleNamespace]:
    return [row(problem, reward, place < failed) for place, reward in enumerate(rewards)]


def test_a_failed_reward_is_no_wrong_answer() -> None:
    """Three right ones and a failed one agree; counted as wrong, the failed one would keep them."""
    assert with_signal(group("a", [0.0, 1.0, 1.0, 1.0], failed=1), flags()) == []
    assert len(with_signal(group("a", [0.0, 1.0, 1.0, 1.0], failed=1), flags(on_error="zero"))) == 4


def test_a_range_of_the_users_bounds_the_mean_as_well() -> None:
    """Means 0.25 and 0.5; of 0.3 to 0.9 the second alone."""
    rows = group("a", [1.0, 0.0, 0.0, 0.0]) + group("b", [1.0, 1.0, 0.0, 0.0])
    assert [one.prompts[0] for one in with_signal(rows, flags((0.3, 0.9)))] == ["b"] * 4


class Generator(PrefixSamplesGenerator):
    """Problems 0, 1, 2, ...; every third has a signal; of each group `failed` rewards failed."""

    def __init__(self, problems: int, failed: int = 0, **reward: object) -> None:
        self.args, self.failed, self.evaluation = flags(**reward), failed, None
        self.problems, self.rounds = iter(range(problems)), []

    def _rolled_out(self, problems, count, **kwargs):
        taken = list(islice(problems, count))
        self.rounds.append(taken)
        for number in taken:
            self.failures += [{"problem": number, "reason": "timeout", "text": "late"}] * self.failed
        rewards = ([1.0, 0.0, 1.0, 1.0], [0.0] * 4)
        rows = [one for number in taken for one in group(str(number), rewards[number % 3 != 0], self.failed)]
        return rows, len(taken), len(taken) < count

    def batch(self, count: int, filtering: bool = True):
        rows, taken, exhausted = self._generate_vllm(self.problems, count, filtering)
        return list(dict.fromkeys(one.prompts[0] for one in rows)), taken, exhausted


def test_others_come_in_the_order_of_the_data_until_the_batch_is_full() -> None:
    """Of 0 to 3 two stay (0 and 3); then 4 and 5, of which none does, then 6 and 7, then 8, then 9."""
    maker = Generator(100)
    assert maker.batch(4) == (["0", "3", "6", "9"], 10, False)
    assert maker.rounds == [[0, 1, 2, 3], [4, 5], [6, 7], [8], [9]]
    assert maker.batch(4, filtering=False) == (["10", "11", "12", "13"], 4, False)


def test_the_last_batch_of_an_episode_is_what_there_is() -> None:
    assert Generator(5).batch(4) == (["0", "3"], 5, True)


def test_failed_rewards_are_counted_over_all_rollouts() -> None:
    """One of four rewards failed everywhere. Over the rows that stay it would look like more: 10 of 16."""
    with pytest.raises(RunStopped, match="10 of 40 rewards failed"):
        Generator(100, failed=1, error_limit=0.2).batch(4)
    assert Generator(100, failed=1, error_limit=0.3).batch(4)[0] == ["0", "3", "6", "9"]


@pytest.mark.parametrize(("enable", "expected"), [(True, ["0", "3"]), (False, ["0", "1"])])
def test_the_flag_is_what_turns_it_on(enable: bool, expected: list[str]) -> None:
    """Through OpenRLHF's own generate_samples()."""
    maker = Generator(100)
    maker.args.algo = SimpleNamespace(dynamic_filtering_enable=enable, dynamic_filtering_range=(0.0, 1.0))
    maker.args.rollout.batch_size, maker.args.vllm = 2, SimpleNamespace(enable_sleep=False)
    maker._dataloader_iter, maker._sample_buffer = maker.problems, []
    rows, *_ = maker.generate_samples()
    assert list(dict.fromkeys(one.prompts[0] for one in rows)) == expected
