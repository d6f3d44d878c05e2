"""Vectors are cut and normalised as the distance asks; two searches are compared by what they found."""

from __future__ import annotations

import numpy as np
import pytest

from tunevane.core.search_settings import parse
from tunevane.errors import EvaluationFailedError
from tunevane_evaluator.index.port import Floats
from tunevane_evaluator.judging import recall, without_own
from tunevane_evaluator.spaces import Space, of_settings

VECTORS: Floats = np.array([[3, 4, 12], [0, 0, 0], [1e-30, 0, 0], [0, 1e30, 0]], np.float32)


def test_vectors_get_length_one_and_zero_stays_zero() -> None:
    made = Space("cosine").prepare(VECTORS)
    expected = np.array([[3 / 13, 4 / 13, 12 / 13], [0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_shorter_vectors_are_cut_before_they_are_normalised() -> None:
    np.testing.assert_allclose(Space("cosine", 2).prepare(VECTORS[:1]), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("distance", ["dot", "euclidean", "sqeuclidean"])
def test_other_distances_take_vectors_as_they_are(distance: str) -> None:
    made = Space(distance, 2).prepare(VECTORS)  # type: ignore[arg-type]  # a parameter is a str
    np.testing.assert_array_equal(made, VECTORS[:, :2])
    assert made.flags.c_contiguous


def test_more_numbers_than_there_are_is_refused_with_a_sentence() -> None:
    with pytest.raises(EvaluationFailedError, match="asks for dims=4, but the model's embeddings have 3 numbers"):
        Space("cosine", 4).prepare(VECTORS)


def test_settings_change_the_plans_own_space() -> None:
    assert of_settings(Space("euclidean"), parse("dims=2+int8")) == Space("euclidean", 2)
    assert of_settings(Space("cosine"), parse("distance=dot")) == Space("dot")


def test_squared_distances_are_shown_where_they_were_asked_for() -> None:
    scores = np.array([[-2, -3]], np.float32)
    assert Space("sqeuclidean").shown(scores).tolist() == [[-4, -9]]
    assert Space("euclidean").shown(scores).tolist() == [[-2, -3]]
    assert Space("cosine").shown(-scores).tolist() == [[2, 3]]


def test_recall_counts_what_was_found_of_the_best() -> None:
    exact = (
        np.array([[4, 5, 6, 7], [1, 2, 3, -1], [-1, -1, -1, -1]]),
        np.array([[9, 8, 7, 7], [3, 2, 1, -np.inf], [-np.inf] * 4], np.float32),
    )
    found = np.array([[7, 4, 0, 5], [3, -1, -1, -1], [0, 1, 2, 3]])
    # The third and the fourth of the first query tie, so each is as good as the other; nothing is to be found for the
    # last one.
    assert recall(exact, found, 3).tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    assert recall(exact, found, 4).tolist() == pytest.approx([3 / 4, 1 / 3, 1])
    assert recall(exact, exact[0], 2).tolist() == [1, 1, 1]


def test_a_querys_own_document_is_moved_out_of_its_results() -> None:
    ids = np.array([[3, 1, 2], [5, 4, -1]])
    scores = np.array([[3, 2, 1], [2, 1, -np.inf]], np.float32)
    kept, left = without_own(ids, scores, np.array([3, -1]))
    assert kept.tolist() == [[1, 2, -1], [5, 4, -1]]
    assert left.tolist() == [[2, 1, -np.inf], [2, 1, -np.inf]]
