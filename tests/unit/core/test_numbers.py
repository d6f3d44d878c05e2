"""Numbers for people: what is written tells values apart and never looks like zero when it is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane.core.numbers import column, decimals, fixed, interval, number, span, together


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.5, "0.5000"),
        (-0.0123456, "-0.01235"),
        (12.3456, "12.35"),
        (123456.7, "123457"),
        (1.234e-9, "1.234e-09"),
        (5e-324, "4.941e-324"),
        (1e300, "1.000e+300"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
    ],
)
def test_one_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("before", "after", "texts"),
    [
        (0.178, 0.366, ("0.178", "0.366", "+0.188")),
        (0.5, 0.5004, ("0.50000", "0.50040", "+0.00040")),
        (0.5, 0.4, ("0.500", "0.400", "-0.100")),
        (0.25, 0.25, ("0.250", "0.250", "0.000")),
        (0.1 + 0.2, 0.3, ("0.300", "0.300", "0.000")),
        (0.0, 2e-9, ("0.000000", "2.0e-09", "+2.0e-09")),
        (None, 0.5, ("–", "0.500", "–")),
        (0.5, None, ("0.500", "–", "–")),
        (1234.0, 1233.0, ("1234.000", "1233.000", "-1.000")),
    ],
)
def test_before_and_after(before: float | None, after: float | None, texts: tuple[str, str, str]) -> None:
    assert together(before, after) == texts


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 6))
def test_what_is_written_as_zero_is_zero(value: float, places: int) -> None:
    for text in (number(value), fixed(value, places), fixed(value, places, sign=True)):
        assert (float(text) == 0) == (value == 0)
        assert (float(text) < 0) == (value < 0)


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=5))
def test_decimals_stay_within_reason(values: list[float | None]) -> None:
    assert 3 <= decimals(values) <= 6


def test_a_column_has_the_decimals_of_its_smallest_value() -> None:
    assert column([(0.178, 0.366), (0.0259, 0.025), (None, 0.5)]) == [
        ("0.17800", "0.36600", "+0.18800"),
        ("0.02590", "0.02500", "-0.00090"),
        ("–", "0.50000", "–"),
    ]
    assert column([]) == []


def test_an_interval_that_begins_at_zero_but_for_rounding_begins_at_zero() -> None:
    assert interval(-1.1e-9, 0.05) == (0.0, 0.05)
    assert interval(-0.1, 3e-10) == (-0.1, 0.0)
    assert interval(1e-9, 2e-9) == (1e-9, 2e-9)
    assert interval(0.0, 0.0) == (0.0, 0.0)
    assert span(-1.1e-9, 0.051948) == "0.000 … +0.052"
    assert span(-0.0038, 0.0362) == "-0.0038 … +0.0362"
