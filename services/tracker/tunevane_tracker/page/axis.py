"""Axes of charts: where values lie, and which round numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Maps values to places."""

    x_low: float
    """Value at the left edge."""

    x_high: float
    """Value at the right edge."""

    y_low: float
    """Value at the bottom."""

    y_high: float
    """Value at the top; above the one at the bottom."""

    left: float
    """Place of the left edge."""

    right: float
    """Place of the right edge."""

    top: float
    """Place of the top; places grow downwards."""

    bottom: float
    """Place of the bottom."""

    def x(self, value: float) -> float:
        """Maps a value to its place from the left; where all are equal, to the middle."""
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        """Maps a value to its place from the top."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.bottom - share * (self.bottom - self.top)


def nice_ticks(low: float, high: float, wanted: int = 3) -> list[float]:
    """Returns about `wanted` round numbers that enclose [low, high]; at least two, ascending."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        spread = abs(low) * 0.1 or 0.5
        low, high = low - spread, high + spread
    rough = high / wanted - low / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((each * power for each in (1.0, 2.0, 2.5, 5.0) if each * power >= rough), 10.0 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def y_labels(ticks: Sequence[float]) -> list[str]:
    """Writes ticks with the digits that tell them apart."""
    step = ticks[1] - ticks[0]
    last = math.floor(math.log10(step) + 1e-9) - (1 if f"{step:e}".startswith("2.5") else 0)
    largest = max(abs(tick) for tick in ticks)
    if largest < 1e6 and last >= -6:
        texts = [f"{tick:.{max(0, -last)}f}" for tick in ticks]
    else:
        texts = [f"{tick:.{min(max(math.floor(math.log10(largest)) - last, 1), 16)}e}" for tick in ticks]
    return [text.replace("-", "−") for text in texts]


def x_marks(low: float, high: float, wanted: int = 6) -> list[int]:
    """Returns about `wanted` whole numbers within [low, high] at a round distance; at least one."""
    least = max(1, math.ceil((high - low) / wanted))
    power = 10 ** (len(str(least)) - 1)
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= least)
    first = math.ceil(low / step) * step
    return [first + index * step for index in range(int((high - first) / step) + 1)] or [int(low)]


def drawable(value: float) -> bool:
    """Tells whether a value has a place on an axis: it is finite, and so are sums with values like it."""
    return abs(value) < 1e300
