"""Answers read by numpy are what protobuf reads, and what is laid out in another way is left to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as wire

from tunevane_evaluator.index import answers
from tunevane_evaluator.index.answers import _fast, read
from tunevane_evaluator.index.questions import QueryFrames

HITS = st.lists(st.tuples(st.integers(0, 2**35 - 1), st.floats(width=32, allow_nan=False)), max_size=5)


def message(rows: list[list[tuple[int, float]]], version: int = 0) -> bytes:
    answer = wire.QueryBatchResponse(time=0.5)
    for row in rows:
        hits = [wire.ScoredPoint(id=wire.PointId(num=number), score=score, version=version) for number, score in row]
        answer.result.append(wire.BatchResult(result=hits))
    return bytes(answer.SerializeToString())


@given(st.lists(HITS, max_size=6), st.sampled_from([0, 1, 300]))
def test_ids_and_scores_are_those_of_the_message(rows: list[list[tuple[int, float]]], version: int) -> None:
    found = _fast(message(rows, version))
    assert found is not None
    ids, scores = found
    width = max(map(len, rows), default=0)
    assert ids.shape == scores.shape == (len(rows), width)
    for row, some, values in zip(rows, ids, scores):
        assert some.tolist() == [number for number, _ in row] + [-1] * (width - len(row))
        assert values.tolist() == [np.float32(score) for _, score in row] + [-np.inf] * (width - len(row))


def test_many_results_are_longer_than_one_byte_can_say() -> None:
    rows = [[(number, 1 / (number + 1)) for number in range(5000)], [(2**34, 0.0)]]
    ids, scores = read(message(rows))
    assert ids[0].tolist() == list(range(5000))
    assert (ids[1, 0], scores[1, 0]) == (2**34, 0)


@pytest.mark.parametrize("what", ["payload", "uuid", "order", "vector"])
def test_what_is_laid_out_in_another_way_is_left_to_protobuf(what: str) -> None:
    hit = wire.ScoredPoint(id=wire.PointId(num=7), score=0.25)
    if what == "payload":
        hit.payload["x"].integer_value = 1
    elif what == "uuid":
        hit.id.CopyFrom(wire.PointId(uuid="a" * 36))
    elif what == "order":
        hit.order_value.int = 5
        hit.ClearField("score")
    else:
        hit.vectors.vector.dense.data.extend([0.5] * 100)
    data = wire.QueryBatchResponse(result=[wire.BatchResult(result=[hit])]).SerializeToString()
    assert _fast(data) is None
    ids, scores = read(data)
    assert ids.tolist() == [[hit.id.num]]
    assert scores.tolist() == [[hit.score]]


@given(st.binary(max_size=60))
def test_nonsense_is_refused_or_read_as_protobuf_reads_it(data: bytes) -> None:
    try:
        expected = answers._slow(data)
    except ValueError:
        expected = None
    found = _fast(data)
    if found is not None and expected is not None:
        np.testing.assert_array_equal(found[0], expected[0])
    if found is None and expected is None:
        with pytest.raises(ValueError, match="are no answer to queries"):
            read(data)


@pytest.mark.parametrize("dimensions", [1, 31, 384, 5000])
def test_protobuf_reads_the_questions(dimensions: int) -> None:
    queries = np.random.default_rng(0).normal(size=(3, dimensions)).astype(np.float32)
    params = wire.SearchParams(hnsw_ef=64, exact=False)
    request = wire.QueryBatchPoints.FromString(QueryFrames("a name", dimensions, 21, params).write(queries))
    assert request.collection_name == "a name"
    for query, point in zip(queries, request.query_points, strict=True):
        assert point == wire.QueryPoints(
            collection_name="a name",
            query=wire.Query(nearest=wire.VectorInput(dense=wire.DenseVector(data=query))),
            params=params,
            limit=21,
            with_payload=wire.WithPayloadSelector(enable=False),
            with_vectors=wire.WithVectorsSelector(enable=False),
        )
