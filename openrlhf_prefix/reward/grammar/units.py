r"""Units: a table of names, and the grammar that composes them.

    read(["km", "/", "h"])       == Unit((("length", 1), ("time", -1)), 5/18)
    read(["square", "feet"])     == Unit((("length", 2),), (381/1250)^2)       read(["apples"]) is None

Two units of one dimension are converted; of two dimensions they differ. A word that is not in the table is no unit.
"""

from dataclasses import dataclass
from fractions import Fraction

_PREFIXES = {"n": "1/1000000000", "μ": "1/1000000", "m": "1/1000", "c": "1/100", "d": "1/10", "k": "1000"}
_LONG_PREFIXES = {"nano": "n", "micro": "μ", "milli": "m", "centi": "c", "deci": "d", "kilo": "k"}
_TABLE: dict[str, dict[str, str]] = {  # dimension -> names -> size
    "length": {
        **{"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "nm": "1/1000000000"},
        **{"in": "127/5000", "inch": "127/5000", "ft": "381/1250", "foot": "381/1250", "yd": "1143/1250"},
        **{"yard": "1143/1250", "mile": "201168/125", "mi": "201168/125", "meter": "1", "metre": "1"},
        **{"米": "1", "厘米": "1/100", "毫米": "1/1000", "分米": "1/10", "千米": "1000", "公里": "1000", "里": "500"},
    },
    "time": {
        **{
            "s": "1",
            "sec": "1",
            "second": "1",
            "ms": "1/1000",
            "min": "60",
            "minute": "60",
            "h": "3600",
            "hr": "3600",
        },
        **{"hour": "3600", "day": "86400", "week": "604800", "秒": "1", "分钟": "60", "小时": "3600", "时": "3600"},
        **{"天": "86400", "日": "86400", "周": "604800"},
    },
    "months": {"month": "1", "year": "12", "yr": "12", "月": "1", "个月": "1", "年": "12"},
    "mass": {
        **{"mg": "1/1000000", "g": "1/1000", "gm": "1/1000", "gram": "1/1000", "kg": "1", "t": "1000", "ton": "1000"},
        **{"tonne": "1000", "lb": "45359237/100000000", "pound": "45359237/100000000", "oz": "45359237/1600000000"},
        **{"ounce": "45359237/1600000000", "克": "1/1000", "千克": "1", "公斤": "1", "吨": "1000", "斤": "1/2"},
    },
    "volume": {
        **{"ml": "1/1000000", "mL": "1/1000000", "l": "1/1000", "L": "1/1000", "liter": "1/1000", "litre": "1/1000"},
        **{"cc": "1/1000000", "升": "1/1000", "毫升": "1/1000000", "gal": "473176473/125000000000"},
        **{"gallon": "473176473/125000000000"},
    },
    "dollar": {"dollar": "1", "cent": "1/100", "buck": "1", "usd": "1", "USD": "1", "美元": "1", "penny": "1/100"},
    "euro": {"euro": "1", "eur": "1", "EUR": "1", "欧元": "1"},
    "sterling": {"pound sterling": "1", "gbp": "1", "pence": "1/100"},
    "yuan": {"yuan": "1", "rmb": "1", "RMB": "1", "元": "1", "角": "1/10", "分": "1/100", "jiao": "1/10"},
    "rupee": {"rupee": "1", "rs": "1", "Rs": "1", "inr": "1"},
    "angle": {"degree": "1", "deg": "1", "度": "1"},
    "radian": {"rad": "1", "radian": "1"},
    "celsius": {"celsius": "1"},
    "fahrenheit": {"fahrenheit": "1"},
    "plain": {"unit": "1"},
    "energy": {"J": "1", "joule": "1", "kJ": "1000", "kWh": "3600000"},
    "electronvolt": {"eV": "1", "keV": "1000", "MeV": "1000000", "electronvolt": "1"},
    "calorie": {"cal": "1", "kcal": "1000", "calorie": "1"},
    "force": {"N": "1", "newton": "1", "kN": "1000"},
    "power": {"W": "1", "watt": "1", "kW": "1000", "MW": "1000000"},
    "voltage": {"V": "1", "volt": "1", "mV": "1/1000"},
    "current": {"A": "1", "amp": "1", "ampere": "1", "mA": "1/1000"},
    "resistance": {"ohm": "1", "Ω": "1"},
    "frequency": {"Hz": "1", "hz": "1", "hertz": "1", "kHz": "1000", "MHz": "1000000", "GHz": "1000000000"},
    "pressure": {"Pa": "1", "pascal": "1", "kPa": "1000", "atm": "101325"},
    "amount": {"mol": "1", "mole": "1"},
    "temperature": {"K": "1", "kelvin": "1"},
    "data": {"bit": "1", "byte": "8", "KB": "8000", "MB": "8000000", "GB": "8000000000"},
    "area": {"acre": "316160658/78125", "hectare": "10000", "ha": "10000", "公顷": "10000"},
}
_SPECIAL = {"mph": ["mile", "/", "h"], "kmph": ["km", "/", "h"], "kph": ["km", "/", "h"], "kmh": ["km", "/", "h"]}
_DERIVED = {"volume": ("length", 3), "area": ("length", 2)}
_CHINESE_POWERS = {"平方": 2, "立方": 3}
_POWER_WORDS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_IRREGULAR = {"feet": "foot", "inches": "inch", "pennies": "penny", "hertz": "hertz", "pence": "pence", "lbs": "lb"}


def _entries() -> dict[str, tuple[str, Fraction]]:
    entries = {name: (kind, Fraction(size)) for kind, units in _TABLE.items() for name, size in units.items()}
    for long, short in _LONG_PREFIXES.items():
        for stem in ("meter", "metre", "gram", "liter", "litre", "second", "joule", "watt", "volt"):
            kind, size = entries[stem]
            entries[long + stem] = (kind, size * Fraction(_PREFIXES[short]))
    return entries


_ENTRIES = _entries()
NAMES = {*_ENTRIES, *_SPECIAL, *_POWER_WORDS, *_IRREGULAR, *(f"{name}s" for name in _ENTRIES if len(name) > 1)}


@dataclass(frozen=True)
class Unit:
    """Powers of dimensions, sorted, and the size in the dimension's own unit."""

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction


def read(words: list[str]) -> Unit | None:
    """The unit that all of `words` name ("^2", "/" and "per" among them); None when any of them is no unit."""
    powers: dict[str, int] = {}
    factor, sign, pending, last = Fraction(1), 1, 1, None
    words = [part for word in words for part in _SPECIAL.get(word, [word])]
    for word in words:
        if word in ("/", "per", "a", "every"):
            sign, last = -1, None
        elif word in ("*",):
            last = None
        elif word == "squared" or word == "cubed" or word.startswith("^"):
            extra = _POWER_WORDS.get(word) or int(word[1:])
            if last is None:
                return None
            kind, size, used = last
            powers[kind] += sign * used * (extra - 1)
            factor *= size ** (sign * (extra - 1))
        elif word in _POWER_WORDS:
            pending = _POWER_WORDS[word]
        else:
            found = _entry(word)
            if found is None:
                return None
            kind, used, size = found
            powers[kind] = powers.get(kind, 0) + sign * used * pending
            factor *= size ** (sign * pending)
            last, pending = (kind, size**pending, used * pending), 1
    dimensions = tuple(sorted((kind, power) for kind, power in powers.items() if power))
    return Unit(dimensions, factor) if dimensions and pending == 1 else None


def _entry(word: str) -> tuple[str, int, Fraction] | None:
    """Dimension, its power and size of one name: square centimetres in Chinese are one word."""
    for prefix, power in _CHINESE_POWERS.items():
        if word.startswith(prefix) and word.removeprefix(prefix) in _ENTRIES:
            kind, size = _ENTRIES[word.removeprefix(prefix)]
            return kind, power, size**power
    for name in (word, _IRREGULAR.get(word, ""), word.removesuffix("s"), word.lower(), word.lower().removesuffix("s")):
        if name in _ENTRIES:
            kind, size = _ENTRIES[name]
            derived, power = _DERIVED.get(kind, (kind, 1))
            return derived, power, size
    return None
