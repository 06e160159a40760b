"""Which problems are worth training on: those whose pass rate, right samples / samples of a policy, has a place.

    0<rate             without the problems that the policy never solves, which give reinforcement nothing (RIF-RFT)
    rate<1             without those that it always solves
    0.1<=rate<=0.9     bounds may be inclusive

With 8 samples a problem of true rate p is taken for one that is never solved with probability (1 - p)^8: 0.43 at 0.1.
Source: RIF-RFT, arXiv 2507.05386, of which the text was not to be had: its number of samples is not known to us.
"""

import re
from dataclasses import dataclass

from openrlhf_prefix.errors import UserError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_FORM = re.compile(rf"(?:{_NUMBER}\s*(<=?)\s*)?rate(?:\s*(<=?)\s*{_NUMBER})?")


@dataclass(frozen=True)
class Keep:
    """An interval of rates.

    Example: parse_keep("0<rate<=0.5") holds 1/8 and 4/8, and neither 0 nor 5/8.
    """

    text: str
    low: float = 0.0
    high: float = 1.0
    above: bool = False  # low itself is outside
    below: bool = False  # high itself is outside

    def __contains__(self, rate: float) -> bool:
        high_enough = rate > self.low if self.above else rate >= self.low
        return high_enough and (rate < self.high if self.below else rate <= self.high)


def parse_keep(text: str, samples: int) -> Keep:
    """The interval that --keep names.

    Raises:
        UserError: another form, bounds outside [0, 1], or an interval that no k / samples lies in.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or text.strip() == "rate":
        raise UserError(f"--keep {text!r} is no interval of rates: write 0<rate, rate<1, 0<rate<1 or 0.1<=rate<=0.9")
    low, above, below, high = found.groups()
    keep = Keep(text, float(low or 0), float(high or 1), above == "<", below == "<")
    if keep.low > 1 or keep.high > 1:
        raise UserError(f"--keep {text!r}: a rate lies in [0, 1], 0.5 being half of the samples")
    if not any(right / samples in keep for right in range(samples + 1)):
        raise UserError(f"--keep {text!r} holds no rate that {samples} samples can have: widen it, or raise --samples")
    return keep
