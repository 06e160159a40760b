"""Plain answers: what is certainly equal, what is certainly not, and what must be left to math-verify."""

from fractions import Fraction

import pytest

from openrlhf_prefix.reward.fast import compare, read_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", Fraction(42)),
        ("-0.5", Fraction(-1, 2)),
        (".5", Fraction(1, 2)),
        ("3.", Fraction(3)),
        ("1,234,567", Fraction(1234567)),
        ("1{,}000.5", Fraction(2001, 2)),
        (r"10\,000", Fraction(10000)),
        ("12,34", None),  # 12.34 to half of the world, and a list to the other half
        ("0,125", None),
        ("007", None),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        (r"\frac{3}{-4}", Fraction(-3, 4)),
        (r"-\frac12", Fraction(-1, 2)),
        (r"\dfrac1{3}", Fraction(1, 3)),
        (r"\frac{1,000}{3}", Fraction(1000, 3)),
        (r"\frac{0.5}{2}", Fraction(1, 4)),
        (r"\frac123", None),  # a half times 3
        (r"\frac{1}{0}", None),
        ("1/2/3", None),
        (r"2\frac13", Fraction(7, 3)),
        (r"-2\frac{1}{3}", Fraction(-7, 3)),
        (r"2\frac{7}{3}", None),
        (r"1.5\times10^{3}", Fraction(1500)),
        (r"2.5 \cdot 10^{-4}", Fraction(1, 4000)),
        (r"2\times10^34", None),  # 10^3 times 4, as TeX reads it
        ("2e3", None),  # 6e to a mathematician
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"0.1\overline{23}", Fraction(61, 495)),  # 1/10 + 23/990 = 122/990
        (r"1.\overline{9}", Fraction(2)),
        ("", None),
        ("-", None),
        (".", None),
        ("--5", None),
        ("x", None),
        ("\u0663", None),  # an Arabic digit
    ],
)
def test_a_number_is_read_exactly_or_not_at_all(text: str, value: Fraction | None) -> None:
    number = read_number(text)
    assert (number and number.value) == value


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("0.1", r"\frac{1}{10}"),
        ("1/3", r"0.\overline{3}"),
        ("42", "$42$"),
        ("42", r"\(42.0\)."),
        ("-7", "\N{MINUS SIGN}7"),
        ("0", "-0"),
        ("1000", "1,000"),
        ("9007199254740993", "9007199254740993.0"),  # 2^53 + 1: a float would round it
        ("0.3", r"\frac{3}{10}"),  # in floats 0.1 + 0.2 != 0.3
    ],
)
def test_equal_numbers_are_equal_in_any_form(gold: str, answer: str) -> None:
    assert compare(gold, answer) is True
    assert compare(answer, gold) is True


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("42", "41"),
        ("42", "-42"),
        ("9007199254740993", "9007199254740992"),  # the same float
        ("1/3", "0.33"),
        ("0.0000001", "0.0000002"),  # math-verify rounds both to 0
        ("1000", "1,001"),
        ("1/3", "333333/1000000"),  # written as a fraction, it was not rounded
    ],
)
def test_different_numbers_are_different(gold: str, answer: str) -> None:
    assert compare(gold, answer) is False
    assert compare(answer, gold) is False


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/3", "0.333333"),  # rounded to six digits: math-verify decides
        ("1,234", "1.234"),  # a decimal comma, perhaps
        ("1,234", "1,235"),  # two lists, perhaps
        ("100,200", "200,100"),
        ("x", "y"),
        ("5", "x = 5"),
        ("abc", "cab"),  # one product
        ("A", "a"),
        (r"\text{no solution}", r"\text{never}"),
        ("yes", "true"),
        ("", ""),
    ],
)
def test_what_can_be_read_in_two_ways_is_left_to_math_verify(gold: str, answer: str) -> None:
    assert compare(gold, answer) is None
    assert compare(answer, gold) is None


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        (r"50\%", "0.5", True),
        (r"50\%", "1/2", True),
        (r"50\%", "50", True),  # the sign stands in the question
        (r"7.41\%", "7.41", True),
        (r"0.5\%", "0.005", True),
        (r"0.5\%", "0.5", False),  # below 1 the sign may not be dropped
        (r"50\%", "5", False),
        (r"50\%", r"5\%", False),
        (r"25\%", r"25 \text{ percent}", True),
        ("25%", "25 percent", True),
        (r"33\frac13\%", "1/3", True),
        (r"33.33333\%", "1/3", None),  # 1e-7 off, rounded
        (r"50\% 50", "50", None),
    ],
)
def test_a_percentage_is_a_hundredth_and_its_sign_may_be_dropped_from_1_upwards(
    gold: str, answer: str, equal: bool | None
) -> None:
    assert compare(gold, answer) is equal
    assert compare(answer, gold) is equal


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("A", r"\textbf{(A)}", True),
        ("A", "(A)", True),
        (r"\text{B}", "C", False),
        (r"\text{yes}", "Yes", True),
        ("yes", "YES.", True),
        ("yes", "No", False),
        (r"\text{true}", r"\text{False}", False),
        (r"\text{Monday}", "monday", True),
        (r"\text{right triangle}", r"\mathrm{ Right  triangle. }", True),
    ],
)
def test_letters_and_words_are_compared_without_wrapper_blanks_and_capital(
    gold: str, answer: str, equal: bool
) -> None:
    assert compare(gold, answer) is equal
    assert compare(answer, gold) is equal
