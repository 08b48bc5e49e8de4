"""Units of measure: which other number says the same amount."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

Sizes: TypeAlias = dict[str, int | Fraction]

_TIME: Sizes = {
    "millisecond": Fraction(1, 1000),
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 604_800,
}
_LENGTH: Sizes = {"millimeter": 1, "centimeter": 10, "meter": 1000, "kilometer": 1_000_000}
_MASS: Sizes = {"milligram": Fraction(1, 1000), "gram": 1, "kilogram": 1000, "tonne": 1_000_000}
_BYTES: Sizes = {"byte": 1, "kilobyte": 1000, "megabyte": 1000**2, "gigabyte": 1000**3, "terabyte": 1000**4}
_BINARY: Sizes = {"byte": 1, "kilobyte": 1024, "megabyte": 1024**2, "gigabyte": 1024**3, "terabyte": 1024**4}
_SIZES = (_TIME, _LENGTH, _MASS, _BYTES, _BINARY)
_SHORT = {
    **{"ms": "millisecond", "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "h": "hour"},
    **{"hr": "hour", "hrs": "hour", "mm": "millimeter", "cm": "centimeter", "km": "kilometer"},
    **{"millimetre": "millimeter", "centimetre": "centimeter", "metre": "meter", "kilometre": "kilometer"},
    **{"mg": "milligram", "kg": "kilogram", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte"},
    **{"kib": "kilobyte", "mib": "megabyte", "gib": "gigabyte", "tib": "terabyte"},
}


@lru_cache(maxsize=256)
def conversions(following: str) -> tuple[str, ...]:
    """The chains that turn a number into other units, by the words behind it in the goal."""
    words = following.split()
    if {"celsius", "centigrade"} & set(words):
        return ("times 1.8 | plus 32", "plus 273.15")
    if "fahrenheit" in words:
        return ("plus -32 | over 1.8",)
    unit = _unit(words[0]) if words else None
    return tuple(dict.fromkeys(way for sizes in _SIZES if unit in sizes for way in _ways(str(unit), sizes)))


def _unit(word: str) -> str | None:
    """A unit by its name, plural or abbreviation."""
    names = {name for sizes in _SIZES for name in sizes}
    for form in (word, word.removesuffix("s")):
        if form in _SHORT or form in names:
            return _SHORT.get(form, form)
    return None


def _ways(unit: str, sizes: Sizes) -> list[str]:
    ways: list[str] = []
    for other, size in sizes.items():
        ratio = Fraction(sizes[unit]) / Fraction(size)
        if other != unit:
            ways.append(f"times {ratio}" if ratio.denominator == 1 else f"over {1 / ratio}")
    return ways
