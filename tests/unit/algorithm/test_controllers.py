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


def test_cuts_takes_each_of_its_shares_alike_at_every_step_and_for_every_row() -> None:
    """Thirds of [0, 1) in their order; chi2 of 3000 rows has 2 degrees of freedom, 0.1 % point 13.8. The rows of one
    group have their own: all four agree by chance in one group of 27."""
    controller = make("cuts", stages=(0.4, 0.6, 0.8))
    shares = [controller.ratio(500, "p", fixed(cut=draw)) for draw in (0.0, 0.33, 0.34, 0.66, 0.67, 0.999)]
    assert shares == [0.4, 0.4, 0.6, 0.6, 0.8, 0.8]
    sampler = PrefixSampler(SCHEDULE, 4, 4, seed=3, controller=controller)
    groups = [[sampler.draw(3, f"p{n}", slot, [10]).length for slot in range(4)] for n in range(750)]
    counts = [sum(group.count(length) for group in groups) for length in (4, 6, 8)]
    assert sum(counts) == 3000 and sum((count - 1000) ** 2 / 1000 for count in counts) < 13.8
    assert sum(len(set(group)) == 1 for group in groups) < 750 / 27 + 4 * (750 / 27) ** 0.5


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


WIDE = PrefixSchedule(low_start=0.5, low_end=0.1, high=0.9, total_steps=10)


def test_spread_gives_one_demonstration_in_lengths_of_every_part_of_the_window() -> None:
    """At the end the window is 0.1 to 0.9: of 4 prefixed rows the k-th has a ratio from 0.1 + 0.2 k on."""
    sampler = PrefixSampler(WIDE, 8, 4, seed=5, controller=CONTROLLERS["spread"](Settings(WIDE)))
    groups = [[sampler.draw(10, f"p{number}", slot, [100, 200, 300]) for slot in range(8)] for number in range(300)]
    assert {draw.demonstration for group in groups for draw in group[4:]} == {0, 1, 2}
    for group in groups:
        assert group[:4] == [PLAIN] * 4 and len({draw.demonstration for draw in group[4:]}) == 1
        for place, draw in enumerate(group[4:]):
            assert 0.1 + 0.2 * place <= draw.ratio < 0.3 + 0.2 * place
    first = [group[4].ratio for group in groups]
    assert sum(first) / 300 == pytest.approx(0.2, abs=4 * 0.2 / 12**0.5 / 300**0.5)  # uniform within its part
    assert len({round(group[4].ratio + 0.2 - group[5].ratio, 9) for group in groups}) > 250  # each row draws its own


def gap(goal: float, scores: int):
    return CONTROLLERS["gap"](Settings(WIDE, goal=goal, scores=scores))


def test_gap_shortens_prefixes_by_what_the_policy_lacks() -> None:
    """U(0.5, 0.9) at a quarter is 0.6, at any step. Plain rewards 1 0 0 0: M = 1/4, s = 1 - 0.25 / 0.8 = 0.6875."""
    controller = gap(goal=0.8, scores=2)
    assert controller.share == 1.0 and controller.ratio(9, "p", fixed(ratio=0.25)) == pytest.approx(0.6)
    controller.observe("p", [(0.0, 1.0), (0.0, 0.0)])
    controller.observe("q", [(0.0, 0.0), (0.0, 0.0), (0.6, 1.0)])  # the prefixed row does not count
    assert controller.share == 1.0  # not before the step is over
    controller.step_over()
    assert controller.ratio(9, "p", fixed(ratio=0.25)) == pytest.approx(0.6 * 0.6875)
    controller.observe("p", [(0.0, 0.75)])
    controller.step_over()  # M = (1/4 + 3/4) / 2
    assert controller.share == pytest.approx(0.375) and controller.metrics() == {"prefix/share": controller.share}
    controller.step_over()  # a step without a plain row changes nothing
    assert controller.scores == [0.25, 0.75]


def test_gap_withdraws_for_good_and_not_after_one_lucky_step() -> None:
    controller = gap(goal=0.8, scores=2)
    for score, share in ((1.0, 0.0), (0.0, 0.375), (0.8, 0.5), (0.8, 0.0), (0.0, 0.0), (0.0, 0.0)):
        controller.observe("p", [(0.0, score)])
        controller.step_over()
        assert controller.share == pytest.approx(share)
        assert (controller.ratio(0, "p", fixed()) is None) == (share == 0)


def after(controller, *accuracies: float) -> int:
    for accuracy in accuracies:
        controller.observe("p", [(0.5, accuracy), (0.0, accuracy)])
        controller.step_over()
    return controller.tokens


def test_ratio_is_the_published_rule() -> None:
    """Every third step L <- L (mean of the two before) / this one's. 100: 0.3 / 0.6 halves it; 0.6 / 0.3 doubles."""
    controller = make("ratio", tokens=100)
    assert after(controller, 0.2, 0.4) == 100 and after(controller, 0.6) == 50
    assert after(controller, 0.6, 0.6, 0.3) == 100
    assert after(controller, 0.0, 0.0, 0.5) == 100 and after(controller, 0.5, 0.5, 0.0) == 100  # a mean of 0
    assert after(controller, 0.5, 0.5, 0.7) == 71  # 71.4 is cut
    assert after(controller, 0.9, 0.9, 0.001) == 3072 and after(controller, 0.0001, 0.0001, 1.0) == 1


def test_ratio_counts_tokens_of_any_demonstration() -> None:
    sampler = PrefixSampler(SCHEDULE, 2, 1, controller=make("ratio", tokens=50))
    draw = sampler.draw(0, "p", 1, [400])
    assert (draw.length, draw.ratio) == (50, 0.125)
    short = sampler.draw(0, "p", 1, [30], [20])
    assert (short.length, short.ratio) == (20, 1.0)  # no more than it may give, and none is filled up
    assert [sampler.draw(0, "p", 1, [total]).length for total in range(51, 400)] == [50] * 349


def test_pass_rate_begins_where_the_prior_says() -> None:
    """(1/2 - r) / (1 - r): 1/2 at r = 0, 1/3 at 1/4, nothing from 1/2 on; without a prior that of the plain rows."""
    controller = make("pass_rate")
    controller.know({"never": 0.0, "rarely": 0.25, "half": 0.5, "always": 1.0})
    found = [controller.ratio(0, name, fixed()) for name in ("never", "rarely", "half", "always", "new")]
    assert found == [0.5, pytest.approx(1 / 3), None, None, 0.5]
    controller.observe("half", [(0.0, 1.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.4, 1.0)])
    controller.observe("new", [(0.0, 0.0), (0.5, 1.0)])
    assert controller.ratio(0, "other", fixed()) == 0.5  # the step is not over, and a row was given one half
    controller.step_over()  # 1 of 5 plain rows
    assert controller.ratio(1, "other", fixed()) == pytest.approx(0.3 / 0.8)
    assert controller.ratio(1, "new", fixed()) == controller.ratio(1, "never", fixed()) == 0.5


def test_pass_rate_moves_by_half_of_what_is_missing_to_one_half() -> None:
    controller = make("pass_rate")
    controller.observe("p", [(0.0, 0.0)] * 7 + [(0.5, 1.0)])
    assert controller.ratio(1, "p", fixed()) == pytest.approx(0.5 + (0.5 - 1 / 8) / 2)
    for _ in range(2):
        controller.observe("p", [(0.0, 0.0), (0.7, 0.0)])
    assert controller.ratio(1, "p", fixed()) == 0.9  # the schedule's high
    controller.observe("q", [(0.0, 1.0), (0.5, 1.0)])
    controller.observe("q", [(0.0, 1.0), (0.25, 1.0)])
    assert controller.ratio(1, "q", fixed()) is None
    controller.observe("q", [(0.0, 0.0), (0.0, 0.0)])
    assert controller.ratio(1, "q", fixed()) == pytest.approx(0.25)


@pytest.mark.parametrize(("alone", "length"), [(0.0, 0.5), (0.2, 0.375), (0.4, 1 / 6)])
def test_pass_rate_finds_the_length_at_which_half_of_a_group_is_right(alone: float, length: float) -> None:
    """Success that grows evenly from `alone` to 1, of a group whose rows all have the prefix; the prior is wrong."""
    controller = make("pass_rate")
    controller.know({"p": 0.45})
    for step in range(40):
        given = controller.ratio(step, "p", fixed()) or 0.0
        controller.observe("p", [(given, alone + (1 - alone) * given)] * 4)
    assert controller.ratio(40, "p", fixed()) == pytest.approx(length, abs=1e-3)


def test_on_failure_knows_what_failed_before_the_run() -> None:
    controller = make("on_failure")
    controller.know({"p": 0.0, "q": 0.125})
    assert controller.ratio(0, "p", fixed()) is not None and controller.ratio(0, "q", fixed()) is None


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_state_goes_on_where_it_was_saved(name: str) -> None:
    first, second = make(name), make(name)
    for number in range(20):
        first.observe(f"p{number % 3}", [(0.0, float(number % 2)), (0.1 + number / 40, float(number % 5 == 0))])
        first.step_over()
    second.load_state_dict(first.state_dict())
    for more in range(3):
        for problem in ("p0", "p1", "p2", "new"):
            assert second.ratio(4, problem, fixed()) == first.ratio(4, problem, fixed())
        assert second.state_dict() == first.state_dict() and second.metrics() == first.metrics()
        for one in (first, second):
            one.observe("p0", [(0.0, float(more)), (0.4, 0.5)])
            one.step_over()


def test_no_prefix_is_a_plain_row() -> None:
    sampler = PrefixSampler(SCHEDULE, 4, 2, controller=make("on_failure"))
    assert [sampler.draw(0, "p", slot, [30]) for slot in range(4)] == [PLAIN] * 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"stages": ()}, "stages"), ({"target": 1.5}, "target"), ({"chunks": 0}, "chunks is 0")]
    + [({"goal": 0.0}, "prefix.goal is 0.0"), ({"scores": 0}, "scores 0"), ({"tokens": 4000}, "give 1 to 3072")],
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(SCHEDULE, **settings)
