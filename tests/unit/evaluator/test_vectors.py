"""Vectors are checked before anything is compared; the encoder here only looks vectors up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from support.exact_index import ExactIndex
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, Item
from tunevane.core.search_settings import SearchSettings
from tunevane.errors import EvaluationFailedError
from tunevane.nn.encode import Encoder, Floats
from tunevane.nn.inputs import Pictures
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import evaluation, vectors
from tunevane_evaluator.work import Work


class Table:
    """Stands for a model whose vectors are written down: the text is the vector."""

    def stream(
        self, texts: Sequence[str], *, bf16: bool, batch_size: int | None, check: Callable[[], None]
    ) -> Iterator[tuple[list[int], Floats]]:
        for position in reversed(range(len(texts))):
            check()
            yield [position], np.array([[float(each) for each in texts[position].split()]], np.float32)


def exact(euclidean: bool, settings: SearchSettings) -> ExactIndex:
    return ExactIndex(euclidean=euclidean)


def work(tmp_path: Path, plan: evaluation_pb2.EvaluationPlan | None = None) -> Work:
    request = wire.EvaluateRequest(plan=plan)
    progress: list[wire.EvaluationProgress] = []
    encoder = cast("Encoder", Table())
    return Work(request, encoder, exact, BlobStore(tmp_path), progress.append, lambda: None)


def items(*texts: str, label: str = "1") -> Dataset:
    return Dataset("items", tuple(Item(f"i{n}", text, label=label) for n, text in enumerate(texts)))


def test_zero_vectors_are_told_where_angles_are_compared(tmp_path: Path) -> None:
    at_hand = work(tmp_path)
    made = vectors.all_of(at_hand, items("3 4", "0 0", "1e-30 0", "0 1e30"), wire.EVALUATION_STEP_INDEXING, "document")
    np.testing.assert_allclose(made, np.array([[3, 4], [0, 0], [1e-30, 0], [0, 1e30]]), rtol=1e-6)
    assert at_hand.warnings == ["a zero vector came out for 1 of 4 items (document); it is equally far from everything"]


def test_distances_are_taken_from_vectors_as_they_are(tmp_path: Path) -> None:
    at_hand = work(tmp_path, evaluation_pb2.EvaluationPlan(distance=evaluation_pb2.DISTANCE_EUCLIDEAN))
    made = vectors.all_of(at_hand, items("3 4", "0 0"), wire.EVALUATION_STEP_INDEXING, "document")
    np.testing.assert_array_equal(made, [[3, 4], [0, 0]])
    assert at_hand.warnings == []


@pytest.mark.parametrize("bad", ["nan 1", "inf 0", "0 -inf"])
def test_what_is_not_finite_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(EvaluationFailedError, match="not finite .* for the document 'i1'; training has diverged"):
        vectors.all_of(work(tmp_path), items("1 1", bad, "2 2"), wire.EVALUATION_STEP_INDEXING, "document")


class Towers:
    """Notes by which tower and from which files it is asked to encode."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str]] = []

    def stream(
        self, given: Sequence[Item], *, pictures: Pictures, tower: str, **more: object
    ) -> Iterator[tuple[list[int], Floats]]:
        self.asked.append(([pictures.digest(item) for item in given], tower))
        yield list(range(len(given))), np.ones((len(given), 2), np.float32)


@pytest.mark.parametrize(
    ("model", "index_model", "towers"), [("text", "image", "text image"), ("image", "", "image image")]
)
def test_each_set_is_read_by_its_tower_from_its_own_files(
    tmp_path: Path, model: str, index_model: str, towers: str
) -> None:
    plan = evaluation_pb2.EvaluationPlan(model=model, index_model=index_model)
    encoder, at_hand = Towers(), work(tmp_path, plan)
    at_hand.encoder = cast("Encoder", encoder)
    blobs = [at_hand.store.put_bytes(data) for data in (b"of the query", b"of the document")]
    for field, blob in zip(("query_data", "index_data"), blobs, strict=True):
        getattr(at_hand.request.plan, field).CopyFrom(bundles.make({"images/a.png": blob}))
    data = Dataset("items", (Item("picture", image="images/a.png"),))
    for what in ("query", "document"):
        vectors.all_of(at_hand, data, wire.EVALUATION_STEP_INDEXING, what)
    asked = zip(blobs, towers.split(), strict=True)
    assert encoder.asked == [([blob.blake3], tower) for blob, tower in asked]


def test_a_zero_vector_is_as_far_from_everything_as_a_right_angle(tmp_path: Path) -> None:
    # The query is zero: all four documents tie, and one of them is relevant.
    queries, documents = items("0 0"), items("1 0", "0 1", "-1 0", "0 0", label="2")
    documents = Dataset("items", (*documents.items[:3], Item("i3", "0 0", label="1")))
    plan = evaluation_pb2.EvaluationPlan(limit=2, metrics=["hit_at_k"])
    at_hand = work(tmp_path, plan)
    plan.query_data.CopyFrom(datasets.save(queries, at_hand.store))
    plan.index_data.CopyFrom(datasets.save(documents, at_hand.store))
    at_hand.request.plan.CopyFrom(plan)
    result = evaluation.run(at_hand)
    assert result.metrics.values["hit_at_k"] == pytest.approx(0.5)
    assert result.collapsed_fraction == 1
    assert any("1 of 1 items (query)" in warning for warning in result.warnings)
    assert any("has the model collapsed?" in warning for warning in result.warnings)


def test_a_collapsed_model_scores_what_chance_gives(tmp_path: Path) -> None:
    data = Dataset("items", tuple(Item(f"i{n}", "1 1", label=str(n // 2)) for n in range(40)))
    plan = evaluation_pb2.EvaluationPlan(limit=3, metrics=["hit_at_k", "recall_at_k"], exclude_self=True)
    at_hand = work(tmp_path, plan)
    at_hand.request.plan.query_data.CopyFrom(datasets.save(data, at_hand.store))
    result = evaluation.run(at_hand)
    # One of the 39 others is relevant, and 3 of them are returned.
    assert result.metrics.values["hit_at_k"] == pytest.approx(3 / 39)
    assert result.metrics.values["recall_at_k"] == pytest.approx(3 / 39)


def test_results_do_not_depend_on_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).integers(-3, 4, (60, 2))
    data = Dataset("items", tuple(Item(f"i{n}", f"{x} {y}", label=str(n % 7)) for n, (x, y) in enumerate(numbers)))
    results = []
    for size in (512, 7):
        monkeypatch.setattr(evaluation, "QUERIES_PER_BLOCK", size)
        plan = evaluation_pb2.EvaluationPlan(
            limit=5, exclude_self=True, example_count=9, metrics=["ndcg@5", "r_precision"]
        )
        at_hand = work(tmp_path, plan)
        at_hand.request.plan.query_data.CopyFrom(datasets.save(data, at_hand.store))
        results.append(evaluation.run(at_hand))
    assert results[0].per_query == results[1].per_query
    assert results[0].examples == results[1].examples
    assert results[0].metrics == results[1].metrics
