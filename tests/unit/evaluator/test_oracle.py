"""The oracle accepts the truth, in any order of ties, and notices what is lost, mixed up or stale."""

from __future__ import annotations

import numpy as np
import pytest

from support.exact_index import ExactIndex
from tunevane_evaluator.index.port import Floats, Ids
from tunevane_evaluator.oracle import MismatchError, Oracle

COUNT, DIMENSIONS, LIMIT = 300, 8, 10


def vectors(seed: int, count: int) -> Floats:
    made: Floats = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return made


def searched(queries: Floats, documents: Floats, euclidean: bool) -> tuple[Oracle, Ids, Floats]:
    oracle = Oracle(queries, LIMIT, 0, euclidean=euclidean)
    index = ExactIndex(euclidean=euclidean)
    index.create(DIMENSIONS)
    for start in range(0, len(documents), 70):
        block = documents[start : start + 70]
        positions = np.arange(start, start + len(block))
        oracle.add(positions, block)
        index.add(positions, block)
    index.seal(len(documents))
    return oracle, *index.search(queries, LIMIT)


@pytest.mark.parametrize("euclidean", [False, True])
def test_the_truth_is_accepted_block_by_block(euclidean: bool) -> None:
    oracle, ids, scores = searched(vectors(1, 100), vectors(2, COUNT), euclidean)
    oracle.check(0, ids[:40], scores[:40])
    oracle.check(40, ids[40:], scores[40:])


@pytest.mark.parametrize("euclidean", [False, True])
def test_a_document_that_is_a_query_is_no_trouble(euclidean: bool) -> None:
    documents = vectors(2, COUNT)
    oracle, ids, scores = searched(documents[:50] * 1000, documents * 1000, euclidean)
    oracle.check(0, ids, scores)


def test_equal_scores_may_stand_in_any_order() -> None:
    documents = np.repeat(vectors(2, 30), 10, axis=0)
    oracle, ids, scores = searched(vectors(1, 20), documents, euclidean=False)
    oracle.check(0, np.flip(ids.reshape(20, -1, 10), axis=2).reshape(ids.shape), scores)


def test_fewer_documents_than_the_limit_are_all_there_is() -> None:
    oracle, ids, scores = searched(vectors(1, 5), vectors(2, 4), euclidean=False)
    oracle.check(0, ids, scores)


@pytest.mark.parametrize("what", ["lost", "mixed", "stale", "short"])
def test_what_is_wrong_is_noticed(what: str) -> None:
    queries, documents = vectors(1, 20), vectors(2, COUNT)
    oracle, ids, scores = searched(queries, documents, euclidean=False)
    if what == "lost":
        # As if an upload had not arrived: the best document of query 3 is missing.
        ids[3, :-1], scores[3, :-1] = ids[3, 1:], scores[3, 1:]
    elif what == "mixed":
        ids[5, 0] = (ids[5].max() + 1) % COUNT
    elif what == "stale":
        _, ids, scores = searched(queries, vectors(7, COUNT), euclidean=False)
    else:
        ids, scores = ids[:, :4], scores[:, :4]
    with pytest.raises(MismatchError, match="differ from brute force for"):
        oracle.check(0, ids, scores)


def test_only_a_sample_is_kept() -> None:
    queries = vectors(1, 1000)
    oracle, ids, scores = searched(queries, vectors(2, COUNT), euclidean=False)
    assert oracle._scores.shape == (64, LIMIT)
    oracle.check(0, ids, scores)
