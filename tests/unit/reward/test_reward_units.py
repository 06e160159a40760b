"""Units: split off where they are known, converted where both sides have one."""

from fractions import Fraction

import pytest

from openrlhf_prefix.reward.units import align, split


@pytest.mark.parametrize(
    ("latex", "value", "unit"),
    [
        (r"5\text{ cm}", "5", ("length^1", Fraction(1, 100))),
        (r"5\,\mathrm{cm}^{2}", "5", ("length^2", Fraction(1, 10000))),
        (r"5 \text{ square meters}", "5", ("length^2", Fraction(1))),
        (r"100\pi\text{ feet}", r"100\pi", ("length^1", Fraction(381, 1250))),  # 0.3048 m
        (r"60\text{ miles per hour}", "60", ("speed^1", Fraction(1397, 3125))),  # 1609.344 / 3600 m/s
        (r"90^\circ", "90", ("angle^1", Fraction(1))),
        (r"90^{\circ}", "90", ("angle^1", Fraction(1))),
        (r"\$5.00", "5.00", ("money^1", Fraction(1))),
        (r"8\text{ apples}", r"8\text{ apples}", None),
        (r"9.8\text{ m/s}^2", r"9.8\text{ m/s}^2", None),  # not a square of m/s
        ("5m", "5m", None),  # a variable
        (r"\text{cm}", r"\text{cm}", None),
        ("", "", None),
    ],
)
def test_a_known_unit_at_the_end_is_split_off(latex: str, value: str, unit: tuple[str, Fraction] | None) -> None:
    assert split(latex) == (value, unit)


def test_two_units_of_one_dimension_are_converted_to_the_same_one() -> None:
    """3 h = 3 * 3600 s, 180 min = 180 * 60 s; cents are 1/100 of a dollar."""
    assert align(r"3\text{ hours}", r"180\text{ min}") == (r"(3)\cdot\frac{3600}{1}", r"(180)\cdot\frac{60}{1}")
    assert align(r"\$1", r"100\text{ cents}") == (r"(1)\cdot\frac{1}{1}", r"(100)\cdot\frac{1}{100}")


def test_one_unit_or_the_same_unit_is_dropped_and_two_dimensions_differ() -> None:
    assert align(r"5\text{ cm}", "5") == ("5", "5")
    assert align("5", r"5\text{ cm}") == ("5", "5")
    assert align(r"5\text{ cm}", r"6\text{ centimeters}") == ("5", "6")
    assert align(r"5\text{ cm}", r"5\text{ cm}^2") is None
    assert align(r"5\text{ cm}", r"5\text{ hours}") is None
    assert align("x", "y") == ("x", "y")
