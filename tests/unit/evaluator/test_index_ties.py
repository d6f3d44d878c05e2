"""Whole numbers make scores exact and ties many: every engine has to give the very same answer."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as wire

from support.exact_index import ExactIndex
from tunevane.errors import ConfigurationError, EvaluationFailedError, UnavailableError
from tunevane_evaluator.index.child import EdgeProcess
from tunevane_evaluator.index.connection import QdrantAddress, QdrantConnection, parse_url
from tunevane_evaluator.index.distinct import Distinct
from tunevane_evaluator.index.frames import PointFrames
from tunevane_evaluator.index.port import Floats, Ids, VectorIndex
from tunevane_evaluator.index.qdrant import QdrantIndex
from tunevane_evaluator.index.torch_index import TorchIndex


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    process = EdgeProcess(tmp_path_factory.mktemp("edge"))
    yield process
    process.close()


def whole(count: int, seed: int) -> Floats:
    made: Floats = np.random.default_rng(seed).integers(-1, 2, (count, 4)).astype(np.float32)
    return made


def found(
    index: VectorIndex, documents: Floats, queries: Floats, limit: int, distinct: Distinct | None = None
) -> tuple[Ids, Floats]:
    index.create(documents.shape[1])
    order = np.random.default_rng(9).permutation(len(documents))
    for part in np.array_split(order, 3):
        rows = None if distinct is None else distinct.new(part, documents[part])
        chosen = part if rows is None else part[rows]
        if len(chosen):
            index.add(chosen, documents[chosen])
    index.seal(len(documents) if distinct is None else distinct.close(len(documents)))
    try:
        results = index.search(queries, limit)
    finally:
        index.drop()
    return results if distinct is None else distinct.expand(*results, limit)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(("count", "limit"), [(1, 1), (1, 20), (200, 1), (200, 20), (200, 200), (1500, 50)])
@pytest.mark.parametrize("engine", ["edge", "torch"])
def test_engine_and_brute_force_agree_to_the_last_tie(
    edge: EdgeProcess, engine: str, distinct: bool, euclidean: bool, count: int, limit: int
) -> None:
    documents, queries = whole(count, count), whole(30, 1)
    # Zero vectors and copies of queries are among them.
    queries[0] = 0
    index = (
        QdrantIndex(edge.connection(), "ties", euclidean=euclidean)
        if engine == "edge"
        else TorchIndex(euclidean=euclidean)
    )
    ours = found(index, documents, queries, limit, Distinct() if distinct else None)
    theirs = found(ExactIndex(euclidean=euclidean), documents, queries, limit)
    scores = queries.astype(np.float64) @ documents.T
    if euclidean:
        scores = -np.linalg.norm(queries[:, None].astype(np.float64) - documents[None], axis=2)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)
    for number, row in enumerate(scores):
        order = sorted(range(count), key=lambda position: (-row[position], position))
        bound = row[order[min(limit, count) - 1]]
        assert ours[0][number][ours[0][number] >= 0].tolist() == [n for n in order if row[n] >= bound]


def test_equal_vectors_are_stored_once() -> None:
    distinct = Distinct()
    ones = np.ones((100, 4), np.float32)
    rows = distinct.new(np.arange(100), ones)
    assert rows is not None
    assert rows.tolist() == [0]
    more = np.array([[1, 1, 1, 1], [0.0, 0, 0, 2], [-0.0, 0, 0, 2]], np.float32)
    rows = distinct.new(np.arange(100, 103), more)
    assert rows is not None
    assert rows.tolist() == [1]
    assert distinct.new(np.array([103]), np.full((1, 4), 3, np.float32)) is None
    assert distinct.close(104) == 3
    ids, scores = distinct.expand(np.array([[103, 101], [103, -1]]), np.array([[2, 1], [2, -np.inf]], np.float32), 2)
    assert ids.tolist() == [[103, 101, 102], [103, -1, -1]]
    assert scores.tolist() == [[2, 1, 1], [2, -np.inf, -np.inf]]


@pytest.mark.parametrize("euclidean", [False, True])
def test_padding_stays_last_where_an_engine_finds_less_for_one_query(edge: EdgeProcess, euclidean: bool) -> None:
    rows = [
        [wire.ScoredPoint(id=wire.PointId(num=n), score=score) for n, score in row]
        for row in ([(1, 2), (2, 1)], [(3, 4)])
    ]
    answer = wire.QueryBatchResponse(result=[wire.BatchResult(result=row) for row in rows])
    index = QdrantIndex(edge.connection(), "uneven", euclidean=euclidean)
    ids, scores = index._read(answer.SerializeToString(), 2)
    assert ids.tolist() == [[1, 2], [3, -1]]
    assert scores.tolist() == ([[-2, -1], [-4, -np.inf]] if euclidean else [[2, 1], [4, -np.inf]])
    with pytest.raises(UnavailableError, match="answered 2 of 3 queries"):
        index._read(answer.SerializeToString(), 3)
    with pytest.raises(UnavailableError, match="answered nonsense"):
        index._read(b"\xff\xff", 1)


def test_two_collections_do_not_mix(edge: EdgeProcess) -> None:
    one, other = (QdrantIndex(edge.connection(), "same label") for _ in range(2))
    assert one.name != other.name
    for index, documents in ((one, whole(50, 1)), (other, whole(60, 2))):
        index.create(4)
        index.add(np.arange(len(documents)), documents)
        index.seal(len(documents))
    expected = found(ExactIndex(), whole(50, 1), whole(5, 3), 10)
    other.drop()
    np.testing.assert_array_equal(one.search(whole(5, 3), 10)[0], expected[0])
    one.drop()


def listed(connection: QdrantConnection) -> list[str]:
    return [each.name for each in connection.collections.List(wire.ListCollectionsRequest(), timeout=10).collections]


def test_collections_are_gone_when_dropped_even_with_uploads_under_way(edge: EdgeProcess) -> None:
    connection = edge.connection()
    index = QdrantIndex(connection, "dropped")
    index.create(4)
    index.add(np.arange(5000), whole(5000, 0))
    assert index.name in listed(connection)
    index.drop()
    index.drop()
    connection.drop_leftovers()
    assert index.name not in listed(connection)


def test_what_could_not_be_dropped_is_dropped_before_the_next_collection(
    edge: EdgeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = edge.connection()
    left, following = QdrantIndex(connection, "left"), QdrantIndex(connection, "next")
    left.create(4)
    left.seal(0)

    class Away:
        def result(self, timeout: float) -> None:
            raise Refusal

    class Refusal(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

    with monkeypatch.context() as patch:
        patch.setattr(connection, "send", lambda *given, **named: Away())
        left.drop()
    assert listed(connection) == [left.name]
    following.create(4)
    following.seal(0)
    assert listed(connection) == [following.name]
    following.drop()
    connection.drop_leftovers()
    assert listed(connection) == []


def test_vectors_of_the_wrong_size_are_refused_with_a_sentence(edge: EdgeProcess) -> None:
    index = QdrantIndex(edge.connection(), "size")
    index.create(5)
    index._points = PointFrames(4)
    index.add(np.arange(3), whole(3, 0))
    with pytest.raises(EvaluationFailedError, match=r"Qdrant at 127\.0\.0\.1:\d+ refused while storing vectors: "):
        index.seal(3)
    index.drop()


def test_a_collection_that_vanished_is_worth_another_attempt(edge: EdgeProcess) -> None:
    connection = edge.connection()
    index = QdrantIndex(connection, "vanished")
    index.create(4)
    index.drop()
    connection.drop_leftovers()
    with pytest.raises(UnavailableError, match="there is no collection"):
        index.seal(0)


def test_only_old_collections_of_ours_are_swept(edge: EdgeProcess) -> None:
    connection = edge.connection()
    params = wire.VectorParams(size=4, distance=wire.Distance.Dot)
    names = ["eval-run-abc-1000", "eval-run-abc-99000", "theirs-1000", "eval-without-time"]
    for name in names:
        request = wire.CreateCollection(collection_name=name, vectors_config=wire.VectorsConfig(params=params))
        connection.collections.Create(request, timeout=10)
    assert connection.sweep(100_000.0) == ["eval-run-abc-1000"]
    assert sorted(listed(connection)) == sorted(names[1:])
    for name in names[1:]:
        connection.drop(name)
    connection.drop_leftovers()
    assert listed(connection) == []


def test_a_server_that_is_not_there_is_named() -> None:
    connection = QdrantConnection(QdrantAddress("127.0.0.1", 1))
    index = QdrantIndex(connection, "nowhere")
    try:
        index.create(4)
        with pytest.raises(UnavailableError, match=r"Qdrant at 127\.0\.0\.1:1 went away while making a collection"):
            index.seal(0)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:6334", QdrantAddress("localhost", 6334)),
        ("qdrant.internal", QdrantAddress("qdrant.internal", 6334)),
        ("https://q.example:443", QdrantAddress("q.example", 443, tls=True)),
        ("grpcs://q.example", QdrantAddress("q.example", 6334, tls=True)),
    ],
)
def test_addresses_are_read(url: str, expected: QdrantAddress) -> None:
    assert parse_url(url, None) == expected


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://host:70000"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Qdrant URL"):
        parse_url(url, None)
