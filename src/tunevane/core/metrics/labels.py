"""When two labels are the same: `1`, `1.0` and `"1"` are, by comparing canonical strings."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import count

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics.ranking import Ints
from tunevane.errors import InvalidRequestError

NONE_IN_QUERIES, NONE_IN_INDEX = -1, -2
"""Codes of a missing label: different, so that two missing labels are not one."""


def canonical(label: object) -> str:
    """Turns a label into the string by which it is compared; integral floats become ints first.

    Raises:
        InvalidRequestError: The label is not a string, a number or a truth value, or is not finite.

    """
    if isinstance(label, str):
        return label
    if isinstance(label, float | np.floating):
        number = float(label)
        if not math.isfinite(number):
            raise InvalidRequestError(f"a label is {number}; labels must be finite numbers or strings")
        return str(int(number)) if number.is_integer() else str(number)
    if isinstance(label, bool | int | np.integer | np.bool_):
        return str(label)
    raise InvalidRequestError(
        f"a label is {str(label)[:80]} of type {type(label).__name__}; labels must be strings or numbers"
    )


def codes(queries: Iterable[object], index: Iterable[object]) -> tuple[Ints, Ints, int]:
    """Numbers the distinct labels.

    Returns:
        Codes of the queries [q], codes of the index documents [d], and how many distinct labels there are.

    """
    if isinstance(queries, np.ndarray) and isinstance(index, np.ndarray):
        numbered = _integer_codes(queries, index)
        if numbered is not None:
            return numbered
    query_labels, index_labels = _plain(queries), _plain(index)
    words = _word_codes(query_labels, index_labels)
    if words is not None:
        return words
    numbers: dict[str, int] = {}
    # Most labels are repeats: the raw value is looked up first, so each is canonicalised about once. The type
    # is part of the key because 1 == True == 1.0 as dictionary keys.
    seen: dict[tuple[type, object], int] = {}

    def number(label: object) -> int:
        try:
            known = seen.get((type(label), label))
        except TypeError:  # a list or another thing that cannot be a key: `canonical` says what is wrong
            known = None
        if known is None:
            known = numbers.setdefault(canonical(label), len(numbers))
            seen[type(label), label] = known
        return known

    index_codes = [NONE_IN_INDEX if label is None else number(label) for label in index_labels]
    query_codes = [NONE_IN_QUERIES if label is None else number(label) for label in query_labels]
    return np.array(query_codes, np.int64), np.array(index_codes, np.int64), len(numbers)


def _word_codes(queries: list[object], index: list[object]) -> tuple[Ints, Ints, int] | None:
    """Numbers labels where all are strings, which are canonical already; None elsewhere."""
    numbers: defaultdict[object, int] = defaultdict(count().__next__)
    try:
        index_codes = np.fromiter(map(numbers.__getitem__, index), np.int64, len(index))
        query_codes = np.fromiter(map(numbers.__getitem__, queries), np.int64, len(queries))
    except TypeError:  # a label that cannot be a key is no string
        return None
    # A string equals only strings, so looking at the distinct labels is enough.
    return (query_codes, index_codes, len(numbers)) if set(map(type, numbers)) == {str} else None


def _integer_codes(queries: npt.NDArray[np.generic], index: npt.NDArray[np.generic]) -> tuple[Ints, Ints, int] | None:
    """Numbers integer labels by their distance from the smallest, where that wastes little; None elsewhere."""
    if queries.dtype.kind != "i" or index.dtype.kind != "i" or queries.size == 0 or index.size == 0:
        return None
    wide_queries, wide_index = queries.astype(np.int64), index.astype(np.int64)
    lowest = min(int(wide_queries.min()), int(wide_index.min()))
    span = max(int(wide_queries.max()), int(wide_index.max())) - lowest + 1
    if queries.ndim != 1 or index.ndim != 1 or span > 4 * (queries.size + index.size):
        return None
    return wide_queries - lowest, wide_index - lowest, span


def _plain(labels: Iterable[object]) -> list[object]:
    if isinstance(labels, np.ndarray):
        values: list[object] = labels.tolist()
        return values
    return list(labels)
