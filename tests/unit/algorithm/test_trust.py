"""What a demonstration is trusted with, counted by hand, and how the sampler draws by it."""

import json
from collections import Counter

import pytest

from openrlhf_prefix.algorithm.controllers import CONTROLLERS, Settings
from openrlhf_prefix.algorithm.sampler import PLAIN, PrefixSampler
from openrlhf_prefix.algorithm.schedules import PrefixSchedule
from openrlhf_prefix.algorithm.trust import Trust

HALF = PrefixSchedule(low_start=0.5, low_end=0.5, high=0.5, shape="constant")


def fixed(**draws: float):
    return lambda name: draws[name]


def test_a_right_row_counts_one_and_a_wrong_one_what_it_was_given() -> None:
    """c = 1: (1 + 1) / (1 + 0.5 + 1) = 0.8; three wrong at l = 1 are 1 / 4; the same three at l = 0.1 are 1 / 1.3.
    With c = 2 the three are 2 / 5. Nothing is said about the others."""
    trust, slow = Trust(1.0), Trust(2.0)
    trust.observe("p", [(0, 0.5, 0.0), (0, 0.9, 1.0), (1, 1.0, 0.0), (1, 1.0, 0.0)])
    trust.observe("p", [(1, 1.0, -1.0)])
    trust.observe("q", [(1, 0.1, 0.0)] * 3)
    slow.observe("p", [(1, 1.0, 0.0)] * 3)
    assert trust.weight("p", 0) == pytest.approx(0.8) and trust.weight("p", 1) == pytest.approx(0.25)
    assert trust.weight("q", 1) == pytest.approx(1 / 1.3) and slow.weight("p", 1) == pytest.approx(0.4)
    assert trust.weight("q", 0) == trust.weight("new", 7) == 1.0
    assert trust.mean() == pytest.approx((0.8 + 0.25 + 1 / 1.3) / 3) and Trust(1.0).mean() == 1.0


def test_a_demonstration_is_drawn_by_its_share_and_none_by_what_the_best_lacks() -> None:
    """Weights 0.8 and 0.25 of demonstrations 0 and 3: their sum is 1.05, the border at 0.8 / 1.05; a row stays
    prefixed below 0.8. Demonstration 3 alone: below 0.25."""
    trust = Trust(1.0)
    trust.observe("p", [(0, 0.5, 0.0), (0, 0.9, 1.0), *[(3, 1.0, 0.0)] * 3])
    border = 0.8 / 1.05
    drawn = [
        trust.draw("p", [0, 3], fixed(trust=0.79, demonstration=u)) for u in (0.0, border - 1e-6, border + 1e-6, 1.0)
    ]
    assert drawn == [0, 0, 3, 3]
    assert trust.draw("p", [0, 3], fixed(trust=0.81, demonstration=0.0)) is None
    assert trust.draw("p", [3], fixed(trust=0.24, demonstration=0.9)) == 3
    assert trust.draw("p", [3], fixed(trust=0.25, demonstration=0.9)) is None


def sampler(trust: Trust | None, **fields) -> PrefixSampler:
    return PrefixSampler(HALF, group_size=2, prefixed_per_group=2, seed=4, trust=trust, **fields)


def test_the_sampler_draws_by_trust() -> None:
    """Demonstration 0 has misled at l = 1 three times (w = 0.25), 1 never (w = 1), 2 cannot be used: shares 0.2 and
    0.8 of 4000 draws, none of them plain; standard deviation 25. Where 0 is the only one, a quarter has a prefix."""
    trust = Trust(1.0)
    for problem in ("p", "alone"):
        trust.observe(problem, [(0, 1.0, 0.0)] * 3)
    counts = Counter(sampler(trust).draw(step, "p", 1, [10, 20, 1]).demonstration for step in range(4000))
    assert counts[None] == counts[2] == 0 and abs(counts[0] - 800) < 100
    alone = [sampler(trust).draw(step, "alone", 1, [10]) for step in range(4000)]
    assert abs(sum(draw != PLAIN for draw in alone) - 1000) < 108 and {draw.length for draw in alone} == {0, 5}


def test_what_was_never_tried_is_drawn_as_without_trust() -> None:
    for step in range(300):
        draws = [sampler(trust).draw(step, "p", step % 2, [10, 20, 30]) for trust in (None, Trust(1.0))]
        assert draws[0] == draws[1]


def test_a_draw_depends_on_its_key_and_on_what_was_seen_alone() -> None:
    """The same after other draws, from a state that went through a checkpoint, and in both rows of a group where the
    controller gives them one draw; another seed draws otherwise."""
    trust, copy = Trust(1.0), Trust(1.0)
    trust.observe("p", [(0, 0.7, 0.0), (1, 0.7, 1.0), (1, 0.7, 0.0)])
    copy.load_state_dict(json.loads(json.dumps(trust.state_dict()), object_hook=_integers))
    assert copy.seen == trust.seen and copy.weight("p", 0) == trust.weight("p", 0) < 1
    steps = range(60)
    first = [sampler(trust).draw(step, "p", 1, [10, 20]) for step in steps]
    assert [sampler(copy).draw(step, "p", 1, [10, 20]) for step in reversed(steps)] == first[::-1]
    other = PrefixSampler(HALF, 2, 2, seed=5, trust=trust)
    assert [other.draw(step, "p", 1, [10, 20]) for step in steps] != first
    shared = sampler(trust, controller=CONTROLLERS["adaptive"](Settings(HALF, plain=0.0)))
    assert all(len({shared.draw(step, "p", slot, [10, 20]) for slot in (0, 1)}) == 1 for step in steps)
    trust.observe("p", [(1, 1.0, 0.0)])
    assert copy.seen != trust.seen  # a state is a copy


def _integers(found: dict) -> dict:
    return {int(key) if key.isdigit() else key: value for key, value in found.items()}


@pytest.mark.parametrize("prior", [0.0, -1.0, float("nan")])
def test_a_prior_that_is_no_credit_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prefix.trust is"):
        Trust(prior)
