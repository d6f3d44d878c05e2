"""Ties at the limit are fetched whole, whatever an engine leaves out."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunevane_evaluator.index.order import Hits, sort, whole_ties
from tunevane_evaluator.index.port import Positions


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=30), min_size=1, max_size=4),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_rows_are_what_sorting_everything_gives(rows: list[list[int]], limit: int, random: Random) -> None:
    documents = min(map(len, rows))
    table = np.array([row[:documents] for row in rows], np.float32)

    def fetch(numbers: Positions, ask: int) -> Hits:
        found = []
        for number in numbers:
            order = list(range(documents))
            # An engine orders equal scores as it likes.
            random.shuffle(order)
            order.sort(key=lambda position: -table[number, position])
            ids = np.array(order[:ask], np.int64)
            found.append(ids)
        rows = np.array(found)
        return rows, np.take_along_axis(table[numbers], rows, axis=1)

    ids, scores = whole_ties(fetch, len(table), limit, documents)
    wanted = min(limit, documents)
    for number, row in enumerate(table):
        everything = sorted(range(documents), key=lambda position: (-row[position], position))
        bound = row[everything[wanted - 1]]
        expected = [position for position in everything if row[position] >= bound]
        assert ids[number][ids[number] >= 0].tolist() == expected
        assert scores[number][: len(expected)].tolist() == [row[position] for position in expected]
        assert np.isneginf(scores[number][len(expected) :]).all()


def test_queries_are_asked_again_only_where_the_limit_cuts_a_tie() -> None:
    table = np.array([[5, 4, 3, 2, 1], [1, 1, 1, 1, 1]], np.float32)
    asked: list[tuple[list[int], int]] = []

    def fetch(numbers: Positions, ask: int) -> Hits:
        asked.append((numbers.tolist(), ask))
        return np.tile(np.arange(ask), (len(numbers), 1)), table[numbers, :ask]

    ids, _ = whole_ties(fetch, 2, 1, 5)
    assert asked == [([0, 1], 2), ([1], 5)]
    assert ids.tolist() == [[0, -1, -1, -1, -1], [0, 1, 2, 3, 4]]


def test_an_engine_that_finds_too_little_is_taken_at_its_word() -> None:
    def fetch(numbers: Positions, ask: int) -> Hits:
        ids = np.array([[3, 1, -1], [2, -1, -1]])
        return ids, np.where(ids >= 0, np.float32(1), np.float32(-np.inf))

    ids, scores = whole_ties(fetch, 2, 5, 100)
    assert ids.tolist() == [[1, 3], [2, -1]]
    assert scores.tolist() == [[1, 1], [1, -np.inf]]


def test_rows_are_sorted_by_score_then_position() -> None:
    ids = np.array([[4, 2, 9, -1], [1, 2, 3, 4]])
    scores = np.array([[1, 1, 2, -np.inf], [4, 3, 2, 1]], np.float32)
    ordered = sort((ids, scores))
    assert ordered[0].tolist() == [[9, 2, 4, -1], [1, 2, 3, 4]]
    assert ordered[1].tolist() == [[2, 1, 1, -np.inf], [4, 3, 2, 1]]
