"""The index port: the embedded engine and brute force answer alike, ties are whole."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.exact_index import ExactIndex
from tunevane.errors import UnavailableError
from tunevane_evaluator.index.child import EdgeProcess
from tunevane_evaluator.index.connection import QdrantConnection, parse_url
from tunevane_evaluator.index.port import Floats, VectorIndex
from tunevane_evaluator.index.qdrant import QdrantIndex
from tunevane_evaluator.index.torch_index import TorchIndex
from tunevane_evaluator.oracle import Oracle


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    process = EdgeProcess(tmp_path_factory.mktemp("edge"))
    yield process
    process.close()


def engines() -> list[str]:
    return ["exact", "torch", "edge", *(["server"] if "QDRANT_URL" in os.environ else [])]


def make(engine: str, edge: EdgeProcess, *, euclidean: bool) -> VectorIndex:
    if engine == "exact":
        return ExactIndex(euclidean=euclidean)
    if engine == "torch":
        return TorchIndex(euclidean=euclidean)
    if engine == "edge":
        return QdrantIndex(edge.connection(), "test", euclidean=euclidean)
    return QdrantIndex(QdrantConnection(parse_url(os.environ["QDRANT_URL"], None)), "test", euclidean=euclidean)


def unit(count: int, seed: int) -> Floats:
    made = np.random.default_rng(seed).normal(size=(count, 24)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("engine", engines())
def test_every_engine_equals_brute_force_in_float64(engine: str, edge: EdgeProcess, euclidean: bool) -> None:
    documents, queries = unit(2500, 0), unit(40, 1)
    index = make(engine, edge, euclidean=euclidean)
    index.create(24)
    for start in range(0, 2500, 700):
        rows = np.arange(start, min(start + 700, 2500))
        index.add(rows, documents[rows])
    index.seal(2500)
    ids, scores = index.search(queries, 10)
    index.drop()
    exact = queries.astype(np.float64) @ documents.T.astype(np.float64)
    if euclidean:
        exact = -np.sqrt(np.maximum(2 - 2 * exact, 0))
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(ids[:, :10], expected)
    np.testing.assert_allclose(scores[:, :10], np.take_along_axis(exact, expected, 1), atol=1e-3 if euclidean else 1e-5)


@pytest.mark.parametrize("engine", engines())
def test_a_tie_at_the_limit_is_fetched_whole_and_ordered_by_position(engine: str, edge: EdgeProcess) -> None:
    documents = unit(300, 2)
    documents[50:120] = documents[7]
    index = make(engine, edge, euclidean=False)
    index.create(24)
    index.add(np.arange(300), documents)
    index.seal(300)
    ids, _ = index.search(documents[7:8], 5)
    index.drop()
    assert ids[0].tolist() == [7, *range(50, 120)]


@pytest.mark.parametrize("engine", engines())
def test_a_limit_above_the_size_gives_everything(engine: str, edge: EdgeProcess) -> None:
    index = make(engine, edge, euclidean=False)
    index.create(24)
    index.add(np.arange(3), unit(3, 3))
    index.seal(3)
    ids, _ = index.search(unit(2, 4), 20)
    index.drop()
    assert sorted(ids[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("engine", engines())
def test_a_count_that_is_off_is_noticed(engine: str, edge: EdgeProcess) -> None:
    index = make(engine, edge, euclidean=False)
    index.create(24)
    index.add(np.arange(3), unit(3, 3))
    with pytest.raises(UnavailableError, match="3 vectors instead of 4"):
        index.seal(4)
    index.drop()


def test_the_engine_is_started_again_when_it_died(tmp_path: Path) -> None:
    process = EdgeProcess(tmp_path / "edge")
    first = process.connection()
    assert process.pid is not None
    index = QdrantIndex(first, "dies")
    index.create(24)
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    with pytest.raises(UnavailableError):
        index.seal(0)
    index.drop()
    assert process.connection().check().startswith("edge")
    process.close()


def test_nothing_is_left_behind(edge: EdgeProcess) -> None:
    connection = edge.connection()
    index = QdrantIndex(connection, "swept")
    index.create(24)
    index.seal(0)
    now = int(index.name.rpartition("-")[2])
    assert connection.sweep(now) == []
    assert connection.sweep(now + 7 * 3600) == [index.name]
    index.drop()


def test_the_oracle_hears_a_wrong_answer() -> None:
    documents, queries = unit(500, 5), unit(9, 6)
    oracle = Oracle(queries, 10, 0, euclidean=False)
    for start in range(0, 500, 100):
        oracle.add(np.arange(start, start + 100), documents[start : start + 100])
    exact = queries @ documents.T
    ids = np.argsort(-exact, axis=1)[:, :10]
    scores = np.take_along_axis(exact, ids, axis=1)
    oracle.check(0, ids, scores)
    scores[4, 3] += 0.01
    with pytest.raises(UnavailableError, match="1 of 9 sampled"):
        oracle.check(0, ids, scores)
