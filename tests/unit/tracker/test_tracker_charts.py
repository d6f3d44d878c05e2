"""Charts and formats of the pages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane_tracker.page.axis import nice_ticks, x_marks, y_labels
from tunevane_tracker.page.chart import Chart, Series, sparkline
from tunevane_tracker.page.html import change, duration, number, percent, typographic

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(finite, finite)
def test_ticks_enclose_the_values(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * max(abs(low), abs(high), ticks[1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


@given(st.floats(min_value=-1e9, max_value=1e9), st.floats(min_value=1e-3, max_value=1e6))
def test_labels_tell_ticks_apart(low: float, span: float) -> None:
    labels = y_labels(nice_ticks(low, low + span))
    assert len(set(labels)) == len(labels)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_marks_lie_within_the_axis(low: int, span: int) -> None:
    marks = x_marks(low, low + span)
    assert 1 <= len(marks) <= 8
    assert all(low <= mark <= low + span for mark in marks)


def test_a_curve_breaks_where_it_is_not_finite() -> None:
    points = [(1.0, 0.5), (2.0, math.nan), (3.0, 0.7), (4.0, 0.6)]
    svg = Chart("loss", "loss", "step", [Series("training", "s0", points)]).svg()
    assert svg.count("<polyline") == 2
    assert "nan" not in svg


def test_a_chart_is_described() -> None:
    chart = Chart("c", "MRR", "epoch", [Series("MRR", "s0", [(0, 0.2), (1, 0.3)])], 0.2, kept=(1, 0.3))
    svg = chart.svg()
    assert 'role="img" aria-labelledby="c-t c-d"' in svg
    assert '<title id="c-t">MRR</title>' in svg
    assert "By epoch: MRR from 0.2000 to 0.3000; 0.2000 before fine-tuning; epoch 1 kept with 0.3000." in svg


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)]])
def test_nothing_finite_is_said_in_words(points: list[tuple[float, float]]) -> None:
    assert "No finite value yet" in Chart("c", "loss", "step", [Series("loss", "s0", points)]).svg()
    assert sparkline(points, None, "") == ""


def test_one_point_is_seen() -> None:
    assert "<circle" in Chart("c", "loss", "step", [Series("loss", "s0", [(1.0, 0.5)])]).svg()


def test_a_flat_sparkline_is_drawn() -> None:
    assert "<polyline" in sparkline([(0, 0.0), (1, 0.0)], 0.0, "MRR")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("-0.5", "−0.5"),
        ("1.000e-09", "1.000e−09"),
        ("fell from -0.1 to -∞", "fell from −0.1 to −∞"),
        ("best-model-checkpoint, top-10 and 2026-01-02", "best-model-checkpoint, top-10 and 2026-01-02"),
        ("+0.1 … -0.2", "+0.1 … −0.2"),
    ],
)
def test_a_minus_is_long_and_a_hyphen_short(text: str, written: str) -> None:
    assert typographic(text) == written


def test_numbers_and_times_are_short() -> None:
    assert [number(value) for value in (None, 0.0, 0.5, -0.5, 1e-9)] == ["–", "0", "0.5000", "−0.5000", "1.000e−09"]
    assert [duration(seconds) for seconds in (-5, 0, 61, 3600, 90_061)] == ["0 s", "0 s", "1 min 1 s", "1 h", "1 d 1 h"]
    assert change(0.5, 0.25) == ("0.500", "0.250", "−0.250")
    assert [percent(*each) for each in ((0.5, 0.25), (0.0, 1.0), (1e-9, 0.5), (0.5, 0.5), (None, 1.0))] == [
        "−50 %",
        "",
        "",
        "",
        "",
    ]
