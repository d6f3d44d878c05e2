"""Draws curves as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunevane_tracker.page.html import escape, number

LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 8.0, 22.0


@dataclass(frozen=True)
class Series:
    """One curve."""

    label: str
    """What it shows."""

    style: str
    """Class of its colour, `s0` to `s3`, and perhaps `thin`."""

    points: Sequence[tuple[float, float]]
    """(x, y) by x; a gap is drawn where y is not finite."""

    dots: bool = False
    """Whether each point is marked."""


@dataclass(frozen=True)
class Chart:
    """A picture of some curves over one axis."""

    title: str
    """Heading."""

    x_name: str
    """What the axis counts, for example `epoch`."""

    series: Sequence[Series]
    """The curves, the most important last."""

    baseline: float | None = None
    """Drawn as a dashed line; None draws none."""

    baseline_label: str = ""
    """What the dashed line shows."""

    kept: tuple[float, float] | None = None
    """The point that was kept; filled."""

    width: float = 360.0
    """Width in user units; the picture scales with the page."""

    height: float = 190.0
    """Height in user units."""

    def figure(self, css_class: str = "") -> str:
        """Returns the chart in a card, with heading and key."""
        keys = [f'<span class="{each.style.split()[0]}"><i></i>{escape(each.label)}</span>' for each in self.series]
        if self.baseline is not None:
            keys.append(f'<span class="s3"><i class="dashed"></i>{escape(self.baseline_label)}</span>')
        # One curve needs no name: the heading says what it is.
        key = "".join(keys if len(self.series) > 1 else keys[1:])
        return (
            f'<figure class="card {css_class}"><figcaption><h3>{escape(self.title)}</h3>'
            f'<span class="key">{key}</span></figcaption>{self.svg()}</figure>'
        )

    def svg(self) -> str:
        """Returns the picture; a run without finite values gets a sentence in its place."""
        finite = [(x, y) for each in self.series for x, y in each.points if math.isfinite(y)]
        if not finite:
            return '<p class="soft">No finite value yet.</p>'
        ys = [y for _, y in finite] + ([self.baseline] if self.baseline is not None else [])
        ticks = nice_ticks(min(ys), max(ys))
        scale = _Scale(
            min(x for x, _ in finite), max(x for x, _ in finite), ticks[0], ticks[-1], self.width, self.height
        )
        parts = [_grid(ticks, scale), _x_axis(scale, self.x_name)]
        if self.baseline is not None:
            y = scale.y(self.baseline)
            parts.append(f'<line class="base s3" x1="{LEFT:g}" x2="{self.width - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [_curve(each, scale) for each in self.series]
        if self.kept is not None and math.isfinite(self.kept[1]):
            parts.append(_dot(self.kept, scale, "kept", f"kept: {self.x_name} {self.kept[0]:g}", 5.0))
        return (
            f'<svg class="plot" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(self._words())}">{"".join(parts)}</svg>'
        )

    def _words(self) -> str:
        ends = [
            f"{each.label} from {number(each.points[0][1])} to {number(each.points[-1][1])}"
            for each in self.series
            if each.points
        ]
        return f"{self.title} by {self.x_name}: {'; '.join(ends)}"


@dataclass(frozen=True)
class _Scale:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: float
    height: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return LEFT + share * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - BOTTOM - share * (self.height - TOP - BOTTOM)


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Returns about `wanted` round numbers that enclose [low, high]; at least two, ascending."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        spread = abs(low) * 0.1 or 0.5
        low, high = low - spread, high + spread
    rough = high / wanted - low / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((each * power for each in (1.0, 2.0, 2.5, 5.0) if each * power >= rough), 10.0 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _grid(ticks: Sequence[float], scale: _Scale) -> str:
    step = ticks[1] - ticks[0]
    digits = max(0, min(6, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step:e}".startswith("2.5") else 0)))
    lines = []
    for tick in ticks:
        y = scale.y(tick)
        text = f"{tick:.{digits}f}" if abs(tick) < 1e6 and step > 1e-6 else f"{tick:.1e}"
        lines.append(
            f'<line class="grid" x1="{LEFT:g}" x2="{scale.width - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{text.replace("-", "−")}</text>'
        )
    return "".join(lines)


def _x_axis(scale: _Scale, name: str) -> str:
    span = scale.x_high - scale.x_low
    step = max(1, math.ceil(span / 8))
    step = next(
        nice
        for base in (1, 10, 100, 10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
        for each in (1, 2, 5)
        if (nice := each * base) >= step
    )
    first = math.ceil(scale.x_low / step) * step
    marks = [first + index * step for index in range(int((scale.x_high - first) / step) + 1)] or [int(scale.x_low)]
    bottom = scale.height - 6
    texts = [f'<text x="{scale.x(mark):.1f}" y="{bottom:g}" text-anchor="middle">{mark:g}</text>' for mark in marks]
    return f'{"".join(texts)}<text x="4" y="{bottom:g}">{escape(name)}</text>'


def _curve(series: Series, scale: _Scale) -> str:
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in series.points:
        if math.isfinite(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    lines = [
        f'<polyline class="{series.style}" points="'
        + " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in piece)
        + '"/>'
        for piece in pieces
        if piece
    ]
    dots = [
        _dot(point, scale, series.style, f"{series.label} {number(point[1])}") for piece in pieces for point in piece
    ]
    return "".join(lines) + ("".join(dots) if series.dots else "")


def _dot(point: tuple[float, float], scale: _Scale, style: str, words: str, radius: float = 3.5) -> str:
    x, y = scale.x(point[0]), scale.y(point[1])
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{escape(words)}</title></circle>'
