"""Other ways to search, measured for real in the embedded engine: shorter vectors, distances, graphs, quantization."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import grpc as qdrant

from support import ready_vectors
from support.exact_index import ExactIndex
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.search_settings import SearchSettings
from tunevane.errors import EvaluationFailedError
from tunevane_evaluator import evaluation
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.engine import Engine
from tunevane_evaluator.index.port import Floats

DIMENSIONS, LABELS = 64, 40
METRICS = ["ndcg@10", "recall@10", "hit@1", "r_precision"]


def cloud(count: int, seed: int) -> tuple[Floats, list[int]]:
    """Makes vectors around the centres of labels, most of what tells these apart in the first numbers."""
    centres = np.random.default_rng(0).normal(size=(LABELS, DIMENSIONS)) * np.linspace(1.5, 0.2, DIMENSIONS)
    random = np.random.default_rng(seed)
    labels = random.integers(0, LABELS, count)
    vectors = centres[labels] + random.normal(size=(count, DIMENSIONS)) * 0.8
    return vectors.astype(np.float32), labels.tolist()


DOCUMENTS, QUERIES = cloud(2500, 1), cloud(60, 2)


@pytest.fixture(scope="module", params=[None, *([os.environ["QDRANT_URL"]] if "QDRANT_URL" in os.environ else [])])
def engine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine(EvaluatorConfig(state_dir=tmp_path_factory.mktemp("engine"), qdrant_url=request.param))
    yield made
    made.close()


def measure(engine: Engine, folder: Path, documents: Floats = DOCUMENTS[0], **plan: object) -> wire.EvaluationResult:
    opener = engine.opener("settings", ready_vectors.go_on)
    asked = {"metrics": METRICS, "limit": 10, **plan}
    given = ready_vectors.work(folder, QUERIES[0], documents, QUERIES[1], DOCUMENTS[1], opener, asked)
    return evaluation.run(given)


def exactly(folder: Path, **plan: object) -> dict[str, float]:
    """Measures by brute force in float64."""

    def open_index(euclidean: bool, settings: SearchSettings) -> ExactIndex:
        return ExactIndex(euclidean=euclidean)

    asked = {"metrics": METRICS, "limit": 10, **plan}
    given = ready_vectors.work(folder, QUERIES[0], DOCUMENTS[0], QUERIES[1], DOCUMENTS[1], open_index, asked)
    return dict(evaluation.run(given).metrics.values)


def by_name(result: wire.EvaluationResult) -> dict[str, evaluation_pb2.SearchOutcome]:
    return {outcome.name: outcome for outcome in result.search}


def test_exact_ways_give_what_brute_force_gives(engine: Engine, tmp_path: Path) -> None:
    result = measure(engine, tmp_path, search=["dims=8", "distance=euclidean", "distance=dot", "dims=64"])
    found = by_name(result)
    assert list(found) == ["dims=8", "distance=euclidean", "distance=dot", "dims=64"]
    assert dict(result.metrics.values) == pytest.approx(exactly(tmp_path))
    euclidean = exactly(tmp_path, distance=evaluation_pb2.DISTANCE_EUCLIDEAN)
    assert dict(found["distance=euclidean"].metrics.values) == pytest.approx(euclidean)
    # All numbers of each vector are the plan's own search.
    assert found["dims=64"].recall == 1
    assert dict(found["dims=64"].gaps.values) == dict.fromkeys(METRICS, 0.0)
    # Fewer numbers find less.
    assert found["dims=8"].recall < 0.9
    assert found["dims=8"].gaps.values["ndcg@10"] > 0.01


def test_gaps_are_what_a_way_loses(engine: Engine, tmp_path: Path) -> None:
    result = measure(engine, tmp_path, search=["dims=4", "int8"])
    for outcome in result.search:
        for name, value in outcome.metrics.values.items():
            assert outcome.gaps.values[name] == pytest.approx(result.metrics.values[name] - value)
        assert outcome.seconds > 0


def test_a_graph_that_is_searched_more_thoroughly_finds_more(engine: Engine, tmp_path: Path) -> None:
    names = ["hnsw:m=4,ef_construct=4,ef=1", "hnsw:m=4,ef_construct=4,ef=500", "hnsw:m=32,ef_construct=200,ef=500"]
    result = measure(engine, tmp_path, search=names)
    sparse, searched, dense = (by_name(result)[name].recall for name in names)
    assert sparse < searched <= dense
    assert dense > 0.99
    assert result.seconds["build"] > 0


def test_quantization_loses_what_rescoring_wins_back(engine: Engine, tmp_path: Path) -> None:
    names = ["binary:rescore=no", "binary:oversampling=20", "int8:rescore=no", "int8"]
    found = by_name(measure(engine, tmp_path, search=names))
    assert found["binary:rescore=no"].recall < 0.9 < found["binary:oversampling=20"].recall
    assert found["binary:rescore=no"].recall < found["int8:rescore=no"].recall <= found["int8"].recall
    assert found["int8"].recall > 0.99


def test_ways_can_be_combined(engine: Engine, tmp_path: Path) -> None:
    result = measure(engine, tmp_path, search=["dims=32+hnsw:m=16,ef=100+int8", "distance=euclidean+binary"])
    combined, euclidean = result.search
    assert 0.2 < combined.recall < 1
    assert 0 < euclidean.recall < 1


def test_copies_count_in_every_way(engine: Engine, tmp_path: Path) -> None:
    # Half of the documents say the same as the other half.
    documents = np.concatenate([DOCUMENTS[0][:1250], DOCUMENTS[0][:1250]])
    result = measure(engine, tmp_path, documents, search=["hnsw:m=32,ef_construct=200,ef=500", "int8"])
    assert all(outcome.recall > 0.98 for outcome in result.search)


def test_a_handful_of_documents_needs_no_graph(engine: Engine, tmp_path: Path) -> None:
    opener = engine.opener("settings", ready_vectors.go_on)
    asked = {"metrics": ["hit@1"], "search": ["hnsw", "binary"], "limit": 3}
    few = ready_vectors.work(tmp_path, QUERIES[0][:2], DOCUMENTS[0][:2], [1, 2], [1, 2], opener, asked)
    result = evaluation.run(few)
    assert [outcome.recall for outcome in result.search] == [1, 1]
    assert all(outcome.seconds < 10 for outcome in result.search)


def test_nothing_is_left_in_the_engine(engine: Engine, tmp_path: Path) -> None:
    measure(engine, tmp_path, search=["dims=8", "int8"])
    connection = engine._connection()
    with pytest.raises(EvaluationFailedError, match="asks for dims=65, but the model's embeddings have 64 numbers"):
        measure(engine, tmp_path, search=["int8", "dims=65"])
    connection.drop_leftovers()
    listed = connection.collections.List(qdrant.ListCollectionsRequest(), timeout=10).collections
    assert not [each.name for each in listed if each.name.startswith("eval-settings-")]


def test_memory_alone_cannot_approximate(tmp_path: Path) -> None:
    engine = Engine(EvaluatorConfig(state_dir=tmp_path, search_engine="torch"))
    assert measure(engine, tmp_path, search=["dims=8"]).search[0].recall < 1
    with pytest.raises(EvaluationFailedError, match="'int8' needs Qdrant, and this evaluator has the setting"):
        measure(engine, tmp_path, search=["int8"])
