"""Ties at the limit are fetched whole, whatever an engine leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunevane_evaluator.index.order import Hits, whole_ties


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=30), min_size=1, max_size=4),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_rows_are_what_sorting_everything_gives(rows: list[list[int]], limit: int, random: Random) -> None:
    documents = min(map(len, rows))
    table = np.array([row[:documents] for row in rows], np.float32)

    def fetch(numbers: Sequence[int], ask: int) -> list[Hits]:
        found = []
        for number in numbers:
            order = list(range(documents))
            # An engine orders equal scores as it likes.
            random.shuffle(order)
            order.sort(key=lambda position: -table[number, position])
            ids = np.array(order[:ask], np.int64)
            found.append((ids, table[number][ids]))
        return found

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

    def fetch(numbers: Sequence[int], ask: int) -> list[Hits]:
        asked.append((list(numbers), ask))
        return [(np.arange(ask), table[number][:ask]) for number in numbers]

    ids, _ = whole_ties(fetch, 2, 1, 5)
    assert asked == [([0, 1], 2), ([1], 5)]
    assert ids.tolist() == [[0, -1, -1, -1, -1], [0, 1, 2, 3, 4]]
