"""Rational values, the rule for decimals, the rule for percentages, and the short way for plain numbers."""

from fractions import Fraction

import pytest

from openrlhf_prefix.reward.equality.exact import ExactOracle, NotExact, Undecided, agrees, value
from openrlhf_prefix.reward.equality.verdict import decide, number
from openrlhf_prefix.reward.grammar.answers import read

EXACT = ExactOracle()


def formula(text: str) -> tuple:
    (item,) = read(text).items
    return item


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", Fraction(42)),
        ("-0.5", Fraction(-1, 2)),
        (".5", Fraction(1, 2)),
        ("1,234,567", Fraction(1_234_567)),
        ("1{,}000.5", Fraction(2001, 2)),
        (r"10\,000", Fraction(10_000)),
        ("10 000", Fraction(10_000)),
        (r"\frac{3}{-4}", Fraction(-3, 4)),
        (r"\dfrac1{3}", Fraction(1, 3)),
        (r"\frac123", Fraction(3, 2)),  # TeX takes one digit each: a half times 3
        (r"2\frac13", Fraction(7, 3)),
        (r"-2\frac{1}{3}", Fraction(-7, 3)),
        (r"2\frac{7}{3}", Fraction(14, 3)),  # no mixed number: a product
        ("3 1/2", Fraction(7, 2)),
        (r"1.5\times10^{3}", Fraction(1500)),
        ("1.5e3", Fraction(1500)),
        ("1e-05", Fraction(1, 100_000)),
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"0.1\overline{23}", Fraction(61, 495)),  # 1/10 + 23/990 = 122/990
        ("1/2/3", Fraction(1, 6)),
        (r"\sqrt{16}", Fraction(4)),
        (r"\sqrt[3]{-27}", Fraction(-3)),
        ("8^{2/3}", Fraction(4)),
        ("5!", Fraction(120)),
        (r"\binom{5}{2}", Fraction(10)),
        (r"\mathrm{C}_5^2", Fraction(10)),
        (r"|{-4}|", Fraction(4)),
        (r"\lfloor 7/2 \rfloor", Fraction(3)),
        (r"\sum_{k=1}^{10} k", Fraction(55)),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", Fraction(-2)),
    ],
)
def test_a_rational_number_is_worked_out_exactly(text: str, expected: Fraction) -> None:
    assert value(formula(text)) == expected


@pytest.mark.parametrize("text", [r"\sqrt{2}", r"\pi", "x", r"\frac{1}{0}", "2^{10^9}", "(10^9)!", r"\sqrt{-4}"])
def test_what_is_not_rational_or_too_large_is_left_alone(text: str) -> None:
    with pytest.raises(NotExact):
        value(formula(text))


@pytest.mark.parametrize(
    ("rounded", "other", "agree"),
    [
        ("0.666667", Fraction(2, 3), True),
        ("0.666666", Fraction(2, 3), False),  # neither rounded right nor long enough to have been cut
        ("0.6666666", Fraction(2, 3), True),  # cut after seven digits
        ("0.33", Fraction(1, 3), False),  # too few digits to tell
        ("2.6667", Fraction(8, 3), True),
        ("2.6668", Fraction(8, 3), False),
        ("0.999999", Fraction(1), False),
        ("1.0000001", Fraction(1), False),
        ("0.0000001", Fraction(1, 2**99), False),  # one digit says nothing
    ],
)
def test_a_decimal_agrees_with_what_it_is_the_rounding_of(rounded: str, other: Fraction, agree: bool) -> None:
    assert agrees(Fraction(rounded), len(rounded.partition(".")[2]), other) is agree


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        (r"50\%", "0.5", True),
        (r"50\%", "1/2", True),
        (r"50\%", "50", True),  # the sign stands in the question
        (r"0.5\%", "0.005", True),
        (r"0.5\%", "0.5", False),  # below 1 the sign may not be dropped
        (r"50\%", "5", False),
        (r"50\%", r"5\%", False),
        (r"-10\%", "-0.1", True),
        (r"25\%", r"25 \text{ percent}", True),
        (r"33\frac13\%", "1/3", True),
    ],
)
def test_a_percentage_is_a_hundredth_and_its_sign_may_be_dropped_from_1_upwards(
    gold: str, answer: str, equal: bool
) -> None:
    assert decide(gold, answer, EXACT) is equal
    assert decide(answer, gold, EXACT) is equal


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2^{24}}", r"\frac{1}{2^{25}}"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        (r"\binom{100}{50}^{-1}", r"\binom{100}{49}^{-1}"),
        (r"1-\frac{1}{2^{30}}", r"1-\frac{1}{2^{31}}"),
        ("2^{1000}", "2^{1001}"),
        ("123456789012", "123456789013"),
    ],
)
def test_numbers_that_agree_in_six_decimals_differ(gold: str, answer: str) -> None:
    assert decide(gold, answer, EXACT) is False
    assert decide(gold, gold.replace("{", "{ "), EXACT) is True


def test_what_needs_more_than_fractions_is_undecided() -> None:
    with pytest.raises(Undecided):
        decide(r"\sqrt{8}", r"2\sqrt{2}", EXACT)


PLAIN = ["0", "7", "-7", "42.50", "-0.5", "1,234", "12,345,678.9", "3/4", "-3/4", r"\frac{3}{4}", r"-\dfrac{10}{4}"]


@pytest.mark.parametrize("text", [*PLAIN, *(text + r"\%" for text in PLAIN)])
def test_the_short_way_for_plain_numbers_gives_what_the_grammar_gives(text: str) -> None:
    short, long = number(text), formula(text)
    assert short is not None and value(short) == value(long)
    assert decide(text, text + " ", EXACT) is True  # the blank sends the second to the grammar


@pytest.mark.parametrize("text", ["", "-", "1,23", "0,75", "1 234", "x", "2e3", "1/2/3", r"\frac{1}{2", "5cm", "٣"])
def test_everything_else_goes_to_the_grammar(text: str) -> None:
    assert number(text) is None
