"""What an evaluation computes: metrics to any depth, scores that people see, and time left."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from support import ready_vectors
from support.exact_index import ExactIndex
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.search_settings import SearchSettings
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import evaluation
from tunevane_evaluator.work import Work

RANDOM = np.random.default_rng(0)
LABELS = [number % 4 for number in range(200)]
CENTRES = RANDOM.normal(size=(4, 6))
DOCUMENTS = (CENTRES[LABELS] + RANDOM.normal(size=(200, 6))).astype(np.float32)
QUERIES = (CENTRES + RANDOM.normal(size=(4, 6))).astype(np.float32)


def brute(euclidean: bool, settings: SearchSettings) -> ExactIndex:
    return ExactIndex(euclidean=euclidean)


def work(folder: Path, **plan: object) -> Work:
    return ready_vectors.work(folder, QUERIES, DOCUMENTS, list(range(4)), LABELS, brute, plan)


def test_r_precision_looks_at_as_many_results_as_are_relevant(tmp_path: Path) -> None:
    # 50 documents are relevant to each query, and 5 are asked for.
    at_hand = work(tmp_path, limit=5, metrics=["r_precision", "precision@5"])
    result = evaluation.run(at_hand)
    cosine = (QUERIES @ DOCUMENTS.T) / np.linalg.norm(QUERIES, axis=1)[:, None] / np.linalg.norm(DOCUMENTS, axis=1)
    relevant = np.array(LABELS)[np.argsort(-cosine, axis=1)] == np.arange(4)[:, None]
    with np.load(io.BytesIO(at_hand.store.read(result.per_query))) as per_query:
        np.testing.assert_allclose(per_query["r_precision"], relevant[:, :50].mean(axis=1))
        np.testing.assert_allclose(per_query["precision@5"], relevant[:, :5].mean(axis=1))


@pytest.mark.parametrize(("distance", "power"), [("EUCLIDEAN", 1), ("SQEUCLIDEAN", 2)])
def test_examples_show_the_distance_that_was_asked_for(tmp_path: Path, distance: str, power: int) -> None:
    at_hand = work(tmp_path, limit=3, example_count=4, distance=evaluation_pb2.Distance.Value(f"DISTANCE_{distance}"))
    result = evaluation.run(at_hand)
    shown = json.loads(at_hand.store.read(result.examples))["queries"]
    for query in shown:
        row = QUERIES[int(query["id"][1:])]
        for found in query["results"]:
            distance_ = float(np.linalg.norm(row - DOCUMENTS[int(found["id"][1:])]))
            assert found["score"] == pytest.approx(-(distance_**power), abs=1e-4)


def test_progress_tells_how_much_is_left(tmp_path: Path) -> None:
    at_hand = work(tmp_path, metrics=["hit@1"])
    told: list[wire.EvaluationProgress] = []
    at_hand.report = told.append
    evaluation.run(at_hand)
    indexing = [each for each in told if each.step == wire.EVALUATION_STEP_INDEXING and each.items_per_second > 0]
    assert indexing
    for each in indexing:
        assert each.seconds_left == pytest.approx((each.total - each.done) / each.items_per_second)


def test_a_store_is_written_only_with_results(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    at_hand = ready_vectors.work(store, QUERIES, DOCUMENTS, list(range(4)), LABELS, brute, {"metrics": ["hit@1"]})
    before = {digest for digest, _, _ in store.digests()}
    result = evaluation.run(at_hand)
    assert {digest for digest, _, _ in store.digests()} - before == {result.per_query.blake3}
