"""Where the answer of a demonstration begins, how long a common beginning is, and which problems keep theirs."""

import pytest

from openrlhf_prefix.data.cuts import answer_start, common_length, keeps_demonstrations


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (r"so \boxed{5}.", "so "),
        (r"so \fbox{5}.", "so "),
        (r"so \boxed {5}.", "so "),
        (r"maybe \boxed{4}, no: \boxed{5}", r"maybe \boxed{4}, no: "),  # a guess with other content gives nothing away
        (r"<think>it is \boxed{5}</think> \boxed{5}", "<think>it is "),  # the answer is given away by the first
        (r"it is \boxed{ 5 }. So \boxed{5}", "it is "),  # spaces do not hide it
        (r"\boxed{5}", ""),
        (r"\boxed{\frac{1}{2}} then \boxed{\frac{1}{2}}", ""),
        (r"a \boxed{\{1\}} b \boxed{\{1, 2\}}", r"a \boxed{\{1\}} b "),  # escaped braces are no braces
        (r"a \boxed{5} b \boxed{5", r"a \boxed{5} b "),  # the last one never closes: there is no content to compare
        (r"a \boxed{} b \boxed{}", r"a \boxed{} b "),
    ],
)
def test_the_answer_begins_at_the_first_box_that_holds_what_the_last_one_holds(text: str, before: str) -> None:
    assert text[: answer_start(text)] == before
    assert answer_start(text) is not None


@pytest.mark.parametrize("text", ["", "no box", r"\boxed 5", "boxed{5}"])
def test_a_text_without_a_box_has_no_answer_to_stop_at(text: str) -> None:
    assert answer_start(text) is None


def test_many_unclosed_boxes_take_linear_time() -> None:
    """Each box is read for 1000 characters at most: 2000 boxes are a matter of a second."""
    text = r"\boxed{" * 2000 + "5}"
    assert answer_start(text) == len(r"\boxed{") * 1999


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [([1, 2, 3], [1, 2, 4, 5], 2), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([7], [1], 0), ([1, 9, 3], [1, 2, 3], 1)],
)
def test_the_common_beginning_ends_at_the_first_difference(first: list, second: list, shared: int) -> None:
    assert common_length(first, second) == common_length(second, first) == shared


def test_shares_are_nested_and_depend_on_seed_and_id_alone() -> None:
    problems = [f"p{index}" for index in range(2000)]
    kept = {share: {p for p in problems if keeps_demonstrations(7, p, share)} for share in (0.01, 0.1, 1.0)}
    assert kept[0.01] < kept[0.1] < kept[1.0] == set(problems)
    assert abs(len(kept[0.1]) - 200) < 41  # 3 standard deviations of a binomial: 3 * sqrt(2000 * 0.1 * 0.9) = 40.2
    assert kept[0.1] != {p for p in problems if keeps_demonstrations(8, p, 0.1)}
