"""Draws curves as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunevane.core.numbers import decimals, fixed
from tunevane_tracker.page.axis import Scale, drawable, nice_ticks, x_marks, y_labels
from tunevane_tracker.page.html import escape, number, typographic

LEFT, RIGHT, TOP, BOTTOM = 44.0, 14.0, 14.0, 24.0

Points = Sequence[tuple[float, float]]
"""(x, y) by x; a gap is where y is not finite."""


@dataclass(frozen=True)
class Series:
    """One curve."""

    label: str
    """What it shows."""

    style: str
    """Class of its colour, `s0` to `s7`; with `thin` it is drawn fainter and not named."""

    points: Points
    """Its points."""

    dots: bool = False
    """Whether each point is marked."""


@dataclass(frozen=True)
class Chart:
    """A picture of some curves over one axis."""

    key: str
    """Makes the ids of its texts unique on the page: letters, digits and hyphens."""

    title: str
    """Heading."""

    x_name: str
    """What the axis counts, for example `epoch`."""

    series: Sequence[Series]
    """The curves, the most important last."""

    baseline: float | None = None
    """Drawn as a dashed line; None draws none."""

    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) by x: the interval in which the curve lies."""

    band_label: str = ""
    """What the band shows."""

    kept: tuple[float, float] | None = None
    """The point that was kept; filled and labelled."""

    width: float = 360.0
    """Width in user units; the picture scales with the page."""

    height: float = 190.0
    """Height in user units."""

    def figure(self, *, legend: bool = True) -> str:
        """Returns the chart in a card with a heading; without a legend where another one on the page serves."""
        key = self.legend() if legend else ""
        return f'<figure class="card"><figcaption><h3>{escape(self.title)}</h3>{key}</figcaption>{self.svg()}</figure>'

    def legend(self) -> str:
        """Names the curves; one curve needs no name, the heading says what it is."""
        named = [each for each in self.series if "thin" not in each.style and len(self.series) > 1]
        keys = [f'<li class="{each.style}"><i></i>{escape(each.label)}</li>' for each in named]
        if self.baseline is not None:
            keys.append('<li class="base"><i></i>before</li>')
        if self.band:
            keys.append(f'<li class="band"><i></i>{escape(self.band_label)}</li>')
        return f'<ul class="key">{"".join(keys)}</ul>' if keys else ""

    def svg(self) -> str:
        """Returns the picture; a run without finite values gets a sentence in its place."""
        finite = [(x, y) for each in self.series for x, y in each.points if drawable(y)]
        if not finite:
            return '<p class="soft">No finite value yet.</p>'
        ys = [y for _, y in finite] + ([self.baseline] if self.baseline is not None else [])
        ys += [end for _, low, high in self.band for end in (low, high) if drawable(end)]
        ticks = nice_ticks(min(ys), max(ys))
        xs = [x for x, _ in finite]
        scale = Scale(min(xs), max(xs), ticks[0], ticks[-1], LEFT, self.width - RIGHT, TOP, self.height - BOTTOM)
        parts = [self._grid(ticks, scale), self._x_axis(scale), _band(self.band, scale)]
        if self.baseline is not None:
            y = scale.y(self.baseline)
            parts.append(f'<line class="base" x1="{scale.left:g}" x2="{scale.right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [_curve(each, scale) for each in self.series]
        if self.kept is not None and drawable(self.kept[1]):
            parts.append(self._kept(self.kept, scale))
        title, description = f"{self.key}-t", f"{self.key}-d"
        return (
            f'<svg class="plot" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-labelledby="{title} {description}"><title id="{title}">{escape(self.title)}</title>'
            f'<desc id="{description}">{escape(self.words())}</desc>{"".join(parts)}</svg>'
        )

    def words(self) -> str:
        """Says what the picture shows."""
        ends = [
            f"{each.label} from {number(each.points[0][1])} to {number(each.points[-1][1])}"
            for each in self.series
            if each.points
        ]
        before = [] if self.baseline is None else [f"{number(self.baseline)} before fine-tuning"]
        kept = [] if self.kept is None else [f"{self.x_name} {self.kept[0]:g} kept with {number(self.kept[1])}"]
        return f"By {self.x_name}: {'; '.join(ends + before + kept)}."

    def _grid(self, ticks: Sequence[float], scale: Scale) -> str:
        lines = []
        for tick, text in zip(ticks, y_labels(ticks), strict=True):
            y = scale.y(tick)
            lines.append(
                f'<line class="grid" x1="{scale.left:g}" x2="{scale.right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{scale.left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
            )
        return "".join(lines)

    def _x_axis(self, scale: Scale) -> str:
        bottom = self.height - 6
        texts = [
            f'<text x="{scale.x(mark):.1f}" y="{bottom:g}" text-anchor="middle">{mark:g}</text>'
            for mark in x_marks(scale.x_low, scale.x_high)
        ]
        return f'{"".join(texts)}<text x="2" y="{bottom:g}">{escape(self.x_name)}</text>'

    def _kept(self, point: tuple[float, float], scale: Scale) -> str:
        x, y = scale.x(point[0]), scale.y(point[1])
        # The label leans away from the edge that it is near.
        middle = (scale.left + scale.right) / 2
        anchor, shift = ("end", -4.0) if x > middle else ("start", 4.0)
        height = y - 10 if y - 10 > scale.top - 4 else y + 20
        return (
            f'<circle class="kept" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text class="kept" x="{x + shift:.1f}" y="{height:.1f}" text-anchor="{anchor}">'
            f"{_short(point[1])}</text>"
        )


def sparkline(points: Points, baseline: float | None, words: str) -> str:
    """Draws a curve the size of a word.

    Args:
        points: Its points.
        baseline: Drawn as a dashed line; None draws none.
        words: What it shows, for those who do not see it.

    """
    finite = [(x, y) for x, y in points if drawable(y)]
    if len(finite) < 2:
        return ""
    ys = [y for _, y in finite] + ([baseline] if baseline is not None else [])
    low, high = min(ys), max(ys)
    flat = 0.0 if high > low else abs(low) * 0.1 or 0.5
    scale = Scale(finite[0][0], finite[-1][0], low - flat, high + flat, 3.0, 93.0, 3.0, 21.0)
    base = ""
    if baseline is not None:
        base = f'<line class="base" x1="3" x2="93" y1="{scale.y(baseline):.1f}" y2="{scale.y(baseline):.1f}"/>'
    line = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in finite)
    return (
        f'<svg class="spark plot" viewBox="0 0 96 24" width="96" height="24" role="img" aria-label="{escape(words)}">'
        f'{base}<polyline class="s0" points="{line}"/></svg>'
    )


def _short(value: float) -> str:
    return typographic(fixed(value, decimals([value])))


def _band(band: Sequence[tuple[float, float, float]], scale: Scale) -> str:
    finite = [each for each in band if all(drawable(value) for value in each)]
    if len(finite) < 2:
        return ""
    upper = [f"{scale.x(x):.1f},{scale.y(high):.1f}" for x, _, high in finite]
    lower = [f"{scale.x(x):.1f},{scale.y(low):.1f}" for x, low, _ in reversed(finite)]
    return f'<polygon class="band" points="{" ".join(upper + lower)}"/>'


def _curve(series: Series, scale: Scale) -> str:
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in series.points:
        if drawable(point[1]):
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
    dots = [_dot(point, scale, series) for piece in pieces for point in piece]
    # A curve of one point is a dot, or there is nothing to see.
    return "".join(lines) + ("".join(dots) if series.dots or len(dots) == 1 else "")


def _dot(point: tuple[float, float], scale: Scale, series: Series) -> str:
    x, y = scale.x(point[0]), scale.y(point[1])
    words = f"{series.label} {number(point[1])}"
    return f'<circle class="{series.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(words)}</title></circle>'
