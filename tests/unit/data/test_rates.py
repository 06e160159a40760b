"""--keep as an interval of rates: every form, both kinds of bounds, and what is no interval."""

import pytest

from openrlhf_prefix.data.rates import parse_keep
from openrlhf_prefix.errors import UserError


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("0<rate", "1234"),
        ("rate<1", "0123"),
        ("0<rate<1", "123"),
        (" 0 < rate < 1 ", "123"),
        ("0<=rate", "01234"),
        ("rate<=0.25", "01"),
        ("0.25<rate<=.75", "23"),
        ("0.25<=rate<0.75", "12"),
        ("rate<=0", "0"),
        ("1<=rate", "4"),
        ("0.5<=rate<=0.5", "2"),
    ],
)
def test_an_interval_holds_the_rates_within_its_bounds(text: str, kept: str) -> None:
    """Of four samples: rates 0, 1/4, 2/4, 3/4, 1."""
    keep = parse_keep(text, 4)
    assert "".join(str(right) for right in range(5) if right / 4 in keep) == kept


def test_a_bound_in_decimals_is_the_rate_that_it_looks_like() -> None:
    """3 of 10 are 0.3: the quotient and the decimal are the same float, for every tenth and every hundredth."""
    for samples in (10, 100):
        for right in range(samples + 1):
            text = f"{right / samples:.2f}"
            assert right / samples in parse_keep(f"{text}<=rate<={text}", samples)


@pytest.mark.parametrize(
    "text",
    ["", "rate", "0<", "rate>0", "1>rate", "0<rates", "0<rate and rate<1", "0<rate<", "-1<rate", "0=<rate", "x<rate"],
)
def test_another_form_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UserError, match="is no interval of rates: write 0<rate, rate<1"):
        parse_keep(text, 8)


@pytest.mark.parametrize("text", ["0<rate<=50", "2<=rate", "rate<1.5"])
def test_a_percentage_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a rate lies in \[0, 1\]"):
        parse_keep(text, 8)


@pytest.mark.parametrize(("text", "samples"), [("0<rate<1", 1), ("0.9<rate<1", 8), ("0.6<rate<0.5", 8), ("1<rate", 8)])
def test_an_interval_that_no_number_of_right_samples_falls_into_is_refused(text: str, samples: int) -> None:
    with pytest.raises(UserError, match=f"holds no rate that {samples} samples can have"):
        parse_keep(text, samples)
    assert parse_keep("0<rate<1", 2) and parse_keep("0.9<rate<1", 16)
