"""What each controller gives a problem, worked out by hand from what it was told."""

import pytest

from openrlhf_prefix.algorithm.controllers import CONTROLLERS, MEMORY, Settings
from openrlhf_prefix.algorithm.sampler import PLAIN, PrefixSampler
from openrlhf_prefix.algorithm.schedules import PrefixSchedule

SCHEDULE = PrefixSchedule(low_start=0.9, low_end=0.1, high=0.9, total_steps=10)


def fixed(**draws: float):
    """The uniform numbers of a draw; "chunk 3" is chunk_3, and half where it is not given."""
    return lambda name: draws.get(name.replace(" ", "_"), 0.5)


def make(name: str, **settings):
    return CONTROLLERS[name](Settings(SCHEDULE, **settings))


def test_schedule_draws_in_the_window_of_the_step() -> None:
    """Half way low is 0.5: 0.5 + 0.4 * 0.25 = 0.6; uniform has low_end at every step: 0.1 + 0.8 * 0.25 = 0.3."""
    assert make("schedule").ratio(5, "p", fixed(ratio=0.25)) == pytest.approx(0.6)
    for step in (0, 5, 99):
        assert make("uniform").ratio(step, "p", fixed(ratio=0.25)) == pytest.approx(0.3)


def test_staged_divides_the_schedule_evenly_and_stays_at_the_last_share() -> None:
    controller = make("staged", stages=(0.5, 0.25, 0.0))
    assert [controller.ratio(step, "p", fixed()) for step in (0, 3, 4, 6, 7, 500)] == [0.5, 0.5, 0.25, 0.25, 0.0, 0.0]


def test_binomial_counts_the_chunks_below_the_share_and_ends_with_the_schedule() -> None:
    """At step 5 the share is 0.5: of 0.1 0.4 0.5 0.6 0.9 two lie below. Its mean is the share itself."""
    controller = make("binomial", chunks=5)
    chunks = {f"chunk_{number}": value for number, value in enumerate((0.1, 0.4, 0.5, 0.6, 0.9))}
    assert controller.ratio(5, "p", fixed(**chunks)) == pytest.approx(2 / 5)
    assert controller.ratio(5, "p", lambda name: 0.5) is None and controller.ratio(10, "p", fixed(**chunks)) is None
    sampler = PrefixSampler(SCHEDULE, 4, 4, seed=3, controller=controller)
    groups = [[sampler.draw(3, f"p{number}", slot, [100]) for slot in range(4)] for number in range(2000)]
    assert all(len(set(group)) == 1 for group in groups)  # one hint for the whole group
    share = SCHEDULE.window(3)[0]
    assert sum(group[0].ratio for group in groups) / 2000 == pytest.approx(
        share, abs=4 * (share * 0.2 / 5 / 2000) ** 0.5
    )


def test_adaptive_narrows_towards_what_a_problem_needs() -> None:
    """(0, 0.9); reward 0 at 0.45 gives (0.45, 0.9); mean 0.5 at 0.675 gives (0, 0.675). Another problem is untouched,
    a new one starts from averages that took in a twentieth of each."""
    controller = make("adaptive", target=0.4, plain=0.1)
    assert controller.ratio(0, "p", fixed()) == pytest.approx(0.45)
    controller.observe("p", [(0.0, 1.0), (0.45, 0.0)])
    assert controller.ratio(1, "p", fixed()) == pytest.approx(0.675)
    controller.observe("p", [(0.675, 1.0), (0.675, 0.0)])
    assert controller.bounds == {"p": (0.0, 0.675)}
    low = (1 - MEMORY) * MEMORY * 0.45
    high = (1 - MEMORY) * 0.9 + MEMORY * 0.675
    assert controller.average == pytest.approx((low, high))
    assert controller.ratio(2, "new", fixed(ratio=0.0)) == pytest.approx(low)
    assert (
        controller.ratio(2, "p", fixed(plain=0.09)) is None and controller.ratio(2, "p", fixed(plain=0.1)) is not None
    )
    controller.observe("p", [(0.0, 0.0)])  # no row had a prefix: nothing is learnt of lengths
    assert controller.bounds == {"p": (0.0, 0.675)}


def test_on_failure_follows_the_plain_rows_of_the_last_visit() -> None:
    controller = make("on_failure")
    assert controller.ratio(5, "p", fixed(ratio=0.25)) is None
    controller.observe("p", [(0.0, 0.0), (0.0, 0.0), (0.6, 1.0)])  # that the prefixed row was right changes nothing
    assert (
        controller.ratio(5, "p", fixed(ratio=0.25)) == pytest.approx(0.6) and controller.ratio(5, "q", fixed()) is None
    )
    controller.observe("p", [])  # all rewards unknown
    assert controller.ratio(5, "p", fixed()) is not None
    controller.observe("p", [(0.0, 1.0), (0.6, 0.0)])
    assert controller.ratio(5, "p", fixed()) is None


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_state_goes_on_where_it_was_saved(name: str) -> None:
    first, second = make(name), make(name)
    for number in range(20):
        first.observe(f"p{number % 3}", [(0.0, float(number % 2)), (0.1 + number / 40, float(number % 5 == 0))])
    second.load_state_dict(first.state_dict())
    for problem in ("p0", "p1", "p2", "new"):
        assert second.ratio(4, problem, fixed()) == first.ratio(4, problem, fixed())
    assert second.state_dict() == first.state_dict()


def test_no_prefix_is_a_plain_row() -> None:
    sampler = PrefixSampler(SCHEDULE, 4, 2, controller=make("on_failure"))
    assert [sampler.draw(0, "p", slot, [30]) for slot in range(4)] == [PLAIN] * 4


@pytest.mark.parametrize(
    ("settings", "said"), [({"stages": ()}, "stages"), ({"target": 1.5}, "target"), ({"chunks": 0}, "chunks is 0")]
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(SCHEDULE, **settings)
