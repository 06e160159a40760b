"""Which slots get a prefix, how long it is, and that every draw is a function of its key alone."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_prefix.algorithm.sampler import PLAIN, PrefixDraw, PrefixSampler, request_seed, stable_uniform
from openrlhf_prefix.algorithm.schedules import PrefixSchedule

ROOT = Path(__file__).resolve().parents[3]


def constant(low: float, high: float) -> PrefixSchedule:
    return PrefixSchedule(low_start=low, low_end=low, high=high, shape="constant")


def draw_group(sampler: PrefixSampler, lengths: list[int], step: int = 3, problem: str = "p") -> list[PrefixDraw]:
    return [sampler.draw(step, problem, slot, lengths) for slot in range(sampler.group_size)]


@pytest.mark.parametrize("prefixed", [0, 1, 3, 5])
def test_the_last_slots_of_a_group_are_prefixed_and_no_others(prefixed: int) -> None:
    """Ratios in [0.3, 0.9] of 10 tokens are 3 to 9 tokens: a prefixed slot has at least 3."""
    sampler = PrefixSampler(constant(0.3, 0.9), group_size=5, prefixed_per_group=prefixed)
    for step in range(20):
        draws = draw_group(sampler, [10], step)
        assert [draw.length >= 3 for draw in draws] == [False] * (5 - prefixed) + [True] * prefixed
        assert all(draw == PrefixDraw(None, 0, 0.0) for draw in draws[: 5 - prefixed])
        assert all(draw.demonstration == 0 for draw in draws[5 - prefixed :])


def test_the_length_is_the_ratio_of_the_demonstration_rounded_down_within_its_bounds() -> None:
    """L = clamp(floor(l n), min, n - 1), recomputed from the ratio that the draw reports; both clamps must occur."""
    sampler = PrefixSampler(constant(0.0, 1.0), group_size=2, prefixed_per_group=2, min_tokens=4, seed=5)
    short = long = inner = 0
    for key in range(600):
        lengths = [6 + key % 40, 3 + key % 7]
        draw = sampler.draw(key, f"problem-{key % 13}", key % 2, lengths)
        total = lengths[draw.demonstration]
        wanted = math.floor(draw.ratio * total)
        assert draw.length == min(max(wanted, 4), total - 1)
        short, long, inner = short + (wanted < 4), long + (wanted == total - 1), inner + (4 <= wanted < total - 1)
        assert 1 <= draw.length < total
    assert min(short, long, inner) > 20


@pytest.mark.parametrize("total", [2, 3, 17, 1000])
def test_the_last_token_is_always_left_to_the_policy(total: int) -> None:
    """With ratio 1 the floor is the whole demonstration, so the clamp to n - 1 decides."""
    draws = draw_group(PrefixSampler(constant(1.0, 1.0), group_size=4, prefixed_per_group=4), [total])
    assert [(draw.length, draw.ratio) for draw in draws] == [(total - 1, 1.0)] * 4


def test_a_prefix_has_at_least_min_tokens_unless_the_demonstration_is_shorter() -> None:
    """Ratio 0 asks for no token: min_tokens 5 gives 5 of 20, and 2 of 3, where one is left to the policy."""
    sampler = PrefixSampler(constant(0.0, 0.0), group_size=1, prefixed_per_group=1, min_tokens=5)
    assert [draw_group(sampler, [total])[0].length for total in (20, 6, 5, 3, 2)] == [5, 5, 4, 2, 1]


def test_a_ratio_of_zero_still_gives_one_token() -> None:
    assert draw_group(PrefixSampler(constant(0.0, 0.0), 1, 1), [20])[0].length == 1


def test_demonstrations_of_one_token_are_never_chosen() -> None:
    sampler = PrefixSampler(constant(0.5, 0.5), group_size=1)
    chosen = {sampler.draw(step, "p", 0, [1, 8, 0, 2, 1]).demonstration for step in range(100)}
    assert chosen == {1, 3}


@pytest.mark.parametrize("lengths", [[], [1], [0, 1, 1]])
def test_a_problem_without_a_usable_demonstration_gives_plain_slots(lengths: list[int]) -> None:
    assert draw_group(PrefixSampler(PrefixSchedule(), group_size=3, prefixed_per_group=2), lengths) == [PLAIN] * 3


def test_the_window_is_that_of_the_schedule_at_the_step() -> None:
    """low falls 1 -> 0 in 10 steps, high 1: the ratio at step t fills [1 - t/10, 1]."""
    schedule = PrefixSchedule(low_start=1.0, low_end=0.0, high=1.0, shape="linear", total_steps=10)
    sampler = PrefixSampler(schedule, group_size=1)
    for step in range(11):
        ratios = [sampler.draw(step, f"p{problem}", 0, [50]).ratio for problem in range(60)]
        # The least of 60 uniform draws lies in the lowest tenth of the window but for 0.9^60 = 0.2 %.
        assert 1 - step / 10 - 1e-12 <= min(ratios) <= 1 - step / 10 + 0.1 * step / 10 + 1e-12
        assert max(ratios) <= 1.0


def test_the_ratio_is_uniform_over_the_window() -> None:
    """Kolmogorov-Smirnov: sorted u_i against i/n and (i+1)/n; D above 1.36/sqrt(n) has probability 5 %."""
    count = 4000
    sampler = PrefixSampler(constant(0.2, 0.8), group_size=1, seed=1)
    ratios = sorted(sampler.draw(step, "p", 0, [100]).ratio for step in range(count))
    shares = [(ratio - 0.2) / 0.6 for ratio in ratios]
    assert shares[0] >= 0.0 and shares[-1] <= 1.0
    distance = max(max((i + 1) / count - share, share - i / count) for i, share in enumerate(shares))
    assert distance < 1.36 / math.sqrt(count)


def test_demonstrations_are_chosen_uniformly_and_independently_of_the_ratio() -> None:
    """3 usable of 4, 3000 draws: chi2 = sum (n_i - 1000)^2 / 1000 with 2 degrees of freedom, 5 % point 5.99.

    A draw that used one number for both would give the first demonstration all the short prefixes: the mean ratio of
    each must be 0.5, with a standard error of 0.6 / sqrt(12) / sqrt(1000) = 0.0055.
    """
    sampler = PrefixSampler(constant(0.2, 0.8), group_size=1, seed=2)
    ratios: dict[int, list[float]] = {0: [], 2: [], 3: []}
    for step in range(3000):
        draw = sampler.draw(step, "p", 0, [10, 1, 20, 30])
        ratios[draw.demonstration].append(draw.ratio)
    assert sum((len(group) - 1000) ** 2 / 1000 for group in ratios.values()) < 5.99
    assert all(abs(sum(group) / len(group) - 0.5) < 4 * 0.0055 for group in ratios.values())


def test_every_part_of_the_key_changes_the_draw() -> None:
    """Base key (seed 0, step 1, problem p, slot 0) and one change of each of its parts: five different ratios."""
    keys = [(0, 1, "p", 0), (1, 1, "p", 0), (0, 2, "p", 0), (0, 1, "q", 0), (0, 1, "p", 1)]
    samplers = [PrefixSampler(constant(0.0, 1.0), group_size=2, prefixed_per_group=2, seed=key[0]) for key in keys]
    draws = [sampler.draw(*key[1:], [100]) for sampler, key in zip(samplers, keys, strict=True)]
    assert len({draw.ratio for draw in draws}) == 5
    assert len({request_seed(*key) for key in keys}) == 5


def test_neighbouring_key_parts_do_not_run_together() -> None:
    """(1, 11) and (11, 1) have the same digits."""
    assert stable_uniform(1, 11) != stable_uniform(11, 1)
    assert stable_uniform("a", "bc") != stable_uniform("ab", "c")


def test_a_draw_does_not_depend_on_the_draws_before_it() -> None:
    sampler = PrefixSampler(PrefixSchedule(), group_size=4, prefixed_per_group=4)
    forward = draw_group(sampler, [30, 40])
    assert [sampler.draw(3, "p", slot, [30, 40]) for slot in (3, 2, 1, 0)] == forward[::-1]


def test_uniform_numbers_and_request_seeds_stay_in_their_range() -> None:
    """1000 uniform draws: mean 0.5 with a standard error of 0.0091; seeds fit 31 bits and use the highest of them."""
    numbers = [stable_uniform("range", index) for index in range(1000)]
    assert all(0.0 <= number < 1.0 for number in numbers)
    assert abs(sum(numbers) / 1000 - 0.5) < 4 * 0.0091
    seeds = [request_seed(0, step, "p", 0) for step in range(200)]
    assert all(0 <= seed < 2**31 for seed in seeds) and max(seeds) >= 2**30 and len(set(seeds)) == 200


def test_every_process_draws_alike() -> None:
    """PYTHONHASHSEED changes hash("p"); nothing of a draw may follow it."""
    code = (
        "from openrlhf_prefix.algorithm.sampler import PrefixSampler, request_seed\n"
        "from openrlhf_prefix.algorithm.schedules import PrefixSchedule\n"
        "s = PrefixSampler(PrefixSchedule(), group_size=4, prefixed_per_group=3, seed=7)\n"
        "print([s.draw(9, 'p\\u00e9', slot, [30, 40, 50]) for slot in range(4)], request_seed(7, 9, 'p', 1))"
    )
    sampler = PrefixSampler(PrefixSchedule(), group_size=4, prefixed_per_group=3, seed=7)
    here = f"{draw_group(sampler, [30, 40, 50], 9, chr(0xE9).join(('p', '')))} {request_seed(7, 9, 'p', 1)}"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert there.stdout.decode().strip() == here


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group_size": 0}, "at least 1 row"),
        ({"group_size": 4, "prefixed_per_group": 5}, "choose 0 to 4"),
        ({"prefixed_per_group": -1}, "prefixed_per_group = -1"),
        ({"min_tokens": 0}, "min_tokens is 0"),
    ],
)
def test_a_sampler_without_meaning_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrefixSampler(PrefixSchedule(), **fields)


@pytest.mark.parametrize("slot", [-1, 8])
def test_a_slot_outside_the_group_is_refused(slot: int) -> None:
    with pytest.raises(ValueError, match="outside a group of 8"):
        PrefixSampler(PrefixSchedule(), group_size=8).draw(0, "p", slot, [10])


@pytest.mark.parametrize(("limit", "length"), [(20, 18), (18, 18), (17, 17), (2, 2), (1, 1)])
def test_a_limit_cuts_the_prefix_but_not_the_ratio(limit: int, length: int) -> None:
    """l = 0.9 of 20 tokens is 18; the limit lies above, at and below it, down to a single token."""
    draw = PrefixSampler(constant(0.9, 0.9), group_size=1).draw(0, "p", 0, [20], [limit])
    assert (draw.length, draw.ratio) == (length, 0.9)


def test_the_limit_wins_over_min_tokens_and_never_over_the_last_token() -> None:
    """min_tokens 5 with limit 3 gives 3; ratio 1 with limit 20 of 20 tokens still leaves one."""
    assert PrefixSampler(constant(0.0, 0.0), 1, 1, min_tokens=5).draw(0, "p", 0, [20], [3]).length == 3
    assert PrefixSampler(constant(1.0, 1.0), 1, 1).draw(0, "p", 0, [20], [20]).length == 19


def test_a_demonstration_with_limit_zero_is_never_chosen() -> None:
    sampler = PrefixSampler(constant(0.5, 0.5), group_size=1)
    chosen = {sampler.draw(step, "p", 0, [8, 8, 8], [0, 4, 7]).demonstration for step in range(100)}
    assert chosen == {1, 2}
    assert sampler.draw(0, "p", 0, [8], [0]) == PLAIN


def test_limits_that_bind_nowhere_change_no_draw() -> None:
    sampler = PrefixSampler(constant(0.0, 1.0), group_size=2, prefixed_per_group=2, seed=3)
    for step in range(50):
        lengths = [5 + step, 30]
        free = [length - 1 for length in lengths]
        assert sampler.draw(step, "p", 1, lengths) == sampler.draw(step, "p", 1, lengths, free)


def test_every_demonstration_needs_its_limit() -> None:
    with pytest.raises(ValueError):
        PrefixSampler(constant(0.5, 0.5), 1).draw(0, "p", 0, [8, 8], [4])


def test_a_whole_demonstration_is_all_of_it_whatever_the_window_and_the_limit() -> None:
    schedule = PrefixSchedule(low_start=0.1, low_end=0.1, high=0.2, shape="constant")
    sampler = PrefixSampler(schedule, group_size=3, prefixed_per_group=1, whole=True)
    assert sampler.draw(0, "p", 2, [20], limits=[0]) == PrefixDraw(demonstration=0, length=20, ratio=1.0)
    assert sampler.draw(0, "p", 1, [20], limits=[0]) == PLAIN
