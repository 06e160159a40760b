"""A gold answer that a file holds as a number, as text of the same value.

    gold_text(1e-05) == "0.00001"        gold_text(1e16) == "10000000000000000"        gold_text(288.0) == "288"

str(1e-05) is "1e-05", which reads as 1 e - 5 in a formula.
"""

import math
from decimal import Decimal


def gold_text(value: str | int | float | Decimal) -> str:
    """Text as it is; a number in digits, without an exponent. ValueError for NaN and infinity."""
    if isinstance(value, (str, int)):
        return str(value)
    if not math.isfinite(value):
        raise ValueError(f"a finite number, not {value}")
    text = format(Decimal(repr(value)) if isinstance(value, float) else value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
