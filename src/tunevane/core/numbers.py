"""Writes numbers for people: as many digits as tell values apart, and no value that looks like zero but is not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

NOTHING = "–"
"""Stands for a value that there is not."""

MOST_DECIMALS = 6
"""Smaller values are written with an exponent."""


def number(value: float | None, digits: int = 4) -> str:
    """Writes one value with `digits` significant digits."""
    if value is None or not math.isfinite(value) or value == 0:
        return fixed(value, 0)
    if not 10.0**-MOST_DECIMALS <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - _power(value))}f}"


def decimals(values: Iterable[float | None], digits: int = 2, least: int = 3) -> int:
    """Returns how many decimals a group of values needs, so that each shows `digits` digits besides leading zeros."""
    needed = least
    for value in values:
        if value is not None and math.isfinite(value) and value != 0:
            needed = max(needed, digits - 1 - _power(value))
    return min(needed, MOST_DECIMALS)


def fixed(value: float | None, places: int, *, sign: bool = False) -> str:
    """Writes a value with a fixed number of decimals, or with an exponent where only zeros would be left.

    Args:
        value: None gives a dash.
        places: Decimals.
        sign: Whether positive values get a plus.

    """
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "NaN"
    plus = "+" if sign and value > 0 else ""
    if math.isinf(value):
        return f"{plus}∞" if value > 0 else "-∞"
    if value == 0:
        return f"{0.0:.{places}f}"
    text = f"{value:.{places}f}"
    if not text.strip("-0.") or len(text) > 16:
        text = f"{value:.1e}"
    return plus + text


Pair = tuple[float | None, float | None]
"""A value before and after."""


def together(before: float | None, after: float | None) -> tuple[str, str, str]:
    """Writes two values and the change from one to the other with the same number of decimals."""
    return column([(before, after)])[0]


def column(pairs: Sequence[Pair]) -> list[tuple[str, str, str]]:
    """Writes values before and after, and the changes, all with the same number of decimals, as a table has them."""
    changes = [_change(*pair) for pair in pairs]
    places = decimals([each for pair in pairs for each in pair] + changes)
    return [
        (fixed(before, places), fixed(after, places), fixed(change, places, sign=True))
        for (before, after), change in zip(pairs, changes, strict=True)
    ]


def interval(low: float, high: float) -> tuple[float, float]:
    """Returns the ends of an interval; one that is 0 but for rounding is 0."""
    slack = 1e-6 * max(abs(low), abs(high))
    return (0.0 if abs(low) <= slack else low), (0.0 if abs(high) <= slack else high)


def span(low: float, high: float) -> str:
    """Writes an interval of a change."""
    low, high = interval(low, high)
    places = decimals((low, high))
    return f"{fixed(low, places, sign=True)} … {fixed(high, places, sign=True)}"


def _change(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    # A change that is only rounding of the subtraction needs no digits.
    return 0.0 if abs(after - before) <= 1e-12 * abs(before) else after - before


def _power(value: float) -> int:
    """Returns the power of ten of a value's first digit; 0.3660 - 0.3659, just below 0.0001, counts as that."""
    return math.floor(math.log10(abs(value)) + 1e-9)
