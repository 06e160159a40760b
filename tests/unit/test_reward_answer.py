"""What counts as the final answer of a response, and which answers are refused unread."""

import time

import pytest

from openrlhf_prefix.reward import extract_boxed
from openrlhf_prefix.reward.answer import too_complex


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\sqrt{\frac{a_{1}}{b^{2}}}} and {more}", r"\sqrt{\frac{a_{1}}{b^{2}}}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        ("\\boxed{\n7\n}", "\n7\n"),
        (r"\boxed{}", ""),
    ],
)
def test_the_content_of_a_box_is_returned_up_to_its_own_closing_brace(text: str, answer: str) -> None:
    assert extract_boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{1}, no, \boxed{2}", "2"),
        (r"\boxed{1}, no, \fbox{2}", "2"),
        (r"\fbox{1}, no, \boxed{2}", "2"),
        (r"\boxed{x = \boxed{3}}", "3"),
    ],
)
def test_of_several_boxes_the_last_one_to_open_counts(text: str, answer: str) -> None:
    assert extract_boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\{x \mid x > 0} tail}", r"\{x \mid x > 0"),  # an escaped brace alone opens nothing
        (r"\boxed{0\}} tail}", r"0\}"),  # nor does it close anything
        (r"\boxed{a \\} tail}", r"a \\"),  # an escaped backslash does not escape the brace after it
    ],
)
def test_an_escaped_brace_is_text_and_not_a_brace(text: str, answer: str) -> None:
    assert extract_boxed(text) == answer


@pytest.mark.parametrize("text", ["", "42", "boxed{42}", r"\boxed 42", r"\boxed", r"\mybox{42}", "{42}"])
def test_a_text_without_a_box_has_no_answer(text: str) -> None:
    assert extract_boxed(text) is None


@pytest.mark.parametrize("text", [r"\boxed{42", r"\boxed{\frac{1}{2}", r"\boxed{1}, no, \boxed{2", r"\boxed{\}"])
def test_a_last_box_that_never_closes_is_no_answer_even_after_a_closed_one(text: str) -> None:
    assert extract_boxed(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"\boxed{1}</think>\boxed{2}</think> so \boxed{3}", "3"),
        (r"<think>\boxed{1}</think> it is one", None),
        (r"<think>\boxed{1}", "1"),  # never stopped thinking: the whole text counts
        (r"\boxed{1</think>}", None),  # a box does not reach across the end of the thinking
    ],
)
def test_only_the_text_after_the_last_closing_think_tag_counts(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


def test_a_megabyte_of_open_boxes_or_braces_takes_linear_time() -> None:
    """A scan per box would take minutes: 2 * 10^5 boxes, each followed by up to 10^6 characters."""
    start = time.monotonic()
    assert extract_boxed(r"\boxed{" * 200_000) is None
    assert extract_boxed(r"\boxed{" + "{" * 1_000_000) is None
    assert extract_boxed((r"\boxed" + " " * 1000) * 1000) is None
    assert time.monotonic() - start < 10


def test_an_answer_is_refused_just_past_each_limit_and_not_at_it() -> None:
    """Limits: 1000 characters, 50 brackets deep, 300 digits in one number."""
    assert not too_complex("x" * 1000) and too_complex("x" * 1001)
    assert not too_complex("{" * 50 + "1" + "}" * 50) and too_complex("{" * 51 + "1" + "}" * 51)
    assert not too_complex("([{" * 16 + ")]}" * 16) and too_complex("([{" * 17 + ")]}" * 17)
    assert not too_complex("7" * 300 + "," + "7" * 300) and too_complex("7" * 301)
    assert not too_complex("{1}" * 300)  # 300 brackets side by side are one deep
