"""Units: read from their words, composed, and converted where two answers have one."""

from fractions import Fraction

import pytest

from openrlhf_prefix.reward.equality.compare import Judge
from openrlhf_prefix.reward.equality.exact import ExactOracle
from openrlhf_prefix.reward.grammar.answers import read as read_answer
from openrlhf_prefix.reward.grammar.units import Unit, read


@pytest.mark.parametrize(
    ("words", "dimensions", "factor"),
    [
        (["cm"], (("length", 1),), Fraction(1, 100)),
        (["cm", "^2"], (("length", 2),), Fraction(1, 10_000)),
        (["square", "feet"], (("length", 2),), Fraction(381, 1250) ** 2),  # 0.3048 m
        (["km", "/", "h"], (("length", 1), ("time", -1)), Fraction(1000, 3600)),
        (["miles", "per", "hour"], (("length", 1), ("time", -1)), Fraction(1_609_344, 1000) / 3600),
        (["mph"], (("length", 1), ("time", -1)), Fraction(1_609_344, 1000) / 3600),
        (["m", "/", "s", "^2"], (("length", 1), ("time", -2)), Fraction(1)),
        (["mL"], (("length", 3),), Fraction(1, 10**6)),  # a volume is a length cubed
        (["平方厘米"], (("length", 2),), Fraction(1, 10_000)),
        (["cents"], (("dollar", 1),), Fraction(1, 100)),
    ],
)
def test_a_unit_is_powers_of_dimensions_and_a_size(
    words: list[str], dimensions: tuple[tuple[str, int], ...], factor: Fraction
) -> None:
    assert read(words) == Unit(dimensions, factor)


@pytest.mark.parametrize("words", [["apples"], ["cm", "apples"], [], ["square"], ["^2"], ["left"]])
def test_a_word_outside_of_the_table_is_no_unit(words: list[str]) -> None:
    assert read(words) is None


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        (r"3\text{ hours}", r"180\text{ min}", True),
        (r"5\text{ cm}", "5", True),  # the question named the unit
        ("5", r"5\text{ cm}", True),
        (r"5\text{ cm}", r"5\text{ cm}^2", False),
        (r"5\text{ cm}", r"5\text{ hours}", False),
        (r"5\text{ cm}", r"6\text{ centimeters}", False),
        (r"50 \mathrm{~km} / \mathrm{h}", r"\frac{125}{9} \text{ m/s}", True),  # 50 * 1000 / 3600
        (r"\$1", r"100\text{ cents}", True),
        ("8 apples", "8", True),
        ("8 apples", "8 pears", False),
        ("8 left", "8", False),  # says more than what was counted
    ],
)
def test_two_units_are_converted_and_one_is_dropped(gold: str, answer: str, equal: bool) -> None:
    assert Judge(ExactOracle()).answers(read_answer(gold), read_answer(answer)) is equal
