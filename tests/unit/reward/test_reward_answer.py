"""What counts as the final answer of a response, and which answers are refused unread."""

import time

import pytest

from openrlhf_prefix.reward import extract_boxed
from openrlhf_prefix.reward.answer import extract_answer, too_complex


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


def test_a_list_of_more_than_200_items_is_refused() -> None:
    """n items have n - 1 separators; the columns and rows of a matrix are separators too."""
    assert not too_complex(",".join("1" * 200)) and too_complex(",".join("1" * 201))
    assert too_complex(r"\begin{pmatrix}" + r"\\".join(["1&1&1&1&1&1&1&1&1&1&1&1&1&1&1"] * 14) + r"\end{pmatrix}")


@pytest.mark.parametrize(
    ("answer", "huge"),
    [
        ("2^{1000000}", False),
        ("2^{1000001}", True),
        ("7^123456789", True),
        ("2^{2^{2^{2}}}", False),  # 65536
        ("2^{2^{2^{2^{2}}}}", False),  # 2^65536: a tower one higher, and still quick
        ("2^{2^{2^{2^{2^{2}}}}}", True),  # its exponent has 19729 digits
        ("9^{9^{9}}", True),  # 9^9 = 387 420 489
        ("1^{99999999}", False),
        ("1^{9^{9^{9}}}", True),  # its exponent is worked out first
        ("5 ^ { 0^{99999999} }", False),
        ("x^{10000000}", False),  # no number is worked out
        ("99999!", False),
        ("100000!", True),
        ("{100000} !", True),
        (r"\binom{1000000}{2}", False),
        (r"\binom{1000000}{500000}", True),
        (r"\dbinom{ 10000000 }{ 5000000 }", True),
    ],
)
def test_a_literal_power_factorial_or_binomial_is_refused_when_it_is_huge(answer: str, huge: bool) -> None:
    """Limits: exponent 10^6, n! below n = 10^5, binomials below n = 10^6 or k = 10^4."""
    assert too_complex(answer) is huge


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it makes 42.", "42"),
        ("first 1, then 1,234.5, done", "1,234.5"),
        ("between 3 and -7", "-7"),
        ("10-3", "3"),  # this minus is no sign
        ("x=-3", "-3"),
        ("so 3/4 of them", "3/4"),
        (r"so $-\frac{3}{4}$ of them", r"-\frac{3}{4}"),
        (r"about 12.5\% more", r"12.5\%"),
        ("5, 6, ", "6"),
        ("none", None),
        ("", None),
        ("<think>1</think> 2", "2"),
        ("<think>1</think> none", None),
        ("<think>1 2", None),  # still thinking
        (r"\boxed{41}, not 42", "41"),
        (r"42 and \boxed{4", None),  # the box was cut off: 42 is not the answer
    ],
)
def test_the_last_number_is_the_answer_of_a_text_without_a_box(text: str, number: str | None) -> None:
    assert extract_answer(text, "last_number") == number


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("It follows.\nx = 3\n\n", "x = 3"),
        ("It follows.\n**Answer: x = 3**", "x = 3"),
        ("the final answer is $42$", "$42$"),
        ("one line", "one line"),
        ("\n \n", None),
    ],
)
def test_the_last_line_without_its_label_is_the_answer_of_a_text_without_a_box(text: str, line: str | None) -> None:
    assert extract_answer(text, "last_line") == line


def test_without_a_fallback_only_a_box_is_an_answer() -> None:
    assert extract_answer("42") is None
    assert extract_answer(r"\boxed{42}") == "42"


def test_gates_and_fallbacks_take_linear_time_on_a_megabyte() -> None:
    start = time.monotonic()
    for text in ("1" * 1_000_000, "1," * 500_000, "- " * 500_000, "\n" * 1_000_000, "answer " * 150_000):
        for fallback in ("last_number", "last_line"):
            extract_answer(text, fallback)
        too_complex(text)
    assert time.monotonic() - start < 10
