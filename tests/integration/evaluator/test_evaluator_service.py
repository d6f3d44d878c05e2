"""The evaluator over gRPC with the embedded Qdrant engine, a real small model and real short texts."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from support import evaluator_service as support
from support.evaluator_service import Client
from support.models import minilm
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.core.metrics import DEFAULT_METRICS
from tunevane.errors import BlobsMissingError, CancelledError, EvaluationFailedError, InvalidRequestError
from tunevane.nn import models
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig

QUERIES = support.translations("de", 40, "q")
DOCUMENTS = support.translations("en", 300, "d")


@dataclass
class Bench:
    """The running service, and weights for it."""

    client: Client
    store: BlobStore
    weights: blob_pb2.Bundle

    def request(
        self, queries: Dataset = QUERIES, documents: Dataset | None = DOCUMENTS, **plan: object
    ) -> wire.EvaluateRequest:
        return support.request(self.store, self.weights, queries, documents, **plan)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("evaluator")
    store = BlobStore(folder / "mine")
    config = EvaluatorConfig(port=0, state_dir=folder / "state", drain_seconds=1)
    with support.running(config, store) as client:
        yield Bench(client, store, support.weights(store))


def embed(data: Dataset) -> npt.NDArray[np.float64]:
    vectors = models.build(minilm()).encode(list(data.texts), show_progress_bar=False)
    return np.asarray(vectors, np.float64)


def reference(scores: npt.NDArray[np.float64], queries: Dataset, documents: Dataset, k: int) -> dict[str, list[float]]:
    """The default metrics and ndcg@10 by the book, one query after the other, from all scores [q, d]."""
    values: dict[str, list[float]] = {name: [] for name in (*DEFAULT_METRICS, "ndcg@10")}
    for query, row in zip(queries.items, scores, strict=True):
        candidates = [n for n, item in enumerate(documents.items) if item.id != query.id]
        order = sorted(candidates, key=lambda n: (-row[n], n))
        hit = [documents.items[n].label == query.label for n in order]
        total, kept = sum(hit), hit[:k]
        found = sum(kept)
        precision, recall = found / len(kept), found / total if total else 0.0
        at = [sum(kept[: rank + 1]) / (rank + 1) for rank, good in enumerate(kept) if good]
        one = {
            "precision_at_k": precision,
            "recall_at_k": recall,
            "f1_score_at_k": 2 * precision * recall / (precision + recall) if found else 0.0,
            "hit_at_k": float(found > 0),
            "average_precision": sum(at) / found if found else 0.0,
            "reciprocal_rank": 1 / (kept.index(True) + 1) if found else 0.0,
            "dcg_at_k": sum(1 / max(np.log2(rank), 1) for rank, good in enumerate(kept, start=1) if good),
            "ndcg@10": (
                sum(1 / np.log2(rank + 1) for rank, good in enumerate(hit[:10], start=1) if good)
                / sum(1 / np.log2(rank + 1) for rank in range(1, min(total, 10) + 1))
                if total
                else 0.0
            ),
        }
        assert one.keys() == values.keys()
        for name, value in one.items():
            values[name].append(value)
    return values


METRICS = (*DEFAULT_METRICS, "ndcg@10")


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sqeuclidean"])
def test_metrics_equal_brute_force_in_float64(bench: Bench, distance: str) -> None:
    given = evaluation_pb2.Distance.Value(f"DISTANCE_{distance.upper()}")
    result = bench.client.evaluate(bench.request(metrics=METRICS, distance=given))
    left, right = embed(QUERIES), embed(DOCUMENTS)
    scores = left @ right.T
    if distance != "cosine":
        scores = -np.linalg.norm(left[:, None] - right[None], axis=2)
    expected = reference(scores, QUERIES, DOCUMENTS, 20)
    assert result.metrics.values.keys() == expected.keys()
    with np.load(io.BytesIO(bench.client.read(result.per_query))) as per_query:
        for name, values in expected.items():
            np.testing.assert_allclose(per_query[name], values, atol=1e-9, err_msg=name)
            assert result.metrics.values[name] == pytest.approx(np.mean(values), abs=1e-9)
    assert 0.1 < result.metrics.values["hit_at_k"] < 1
    assert (result.query_count, result.document_count, result.computed) == (40, 300, True)
    assert {"load", "encode", "store", "search", "score"} <= result.seconds.keys()


def test_a_set_is_searched_against_itself_without_the_query(bench: Bench) -> None:
    both = Dataset("items", QUERIES.items + DOCUMENTS.items[:100])
    given = bench.request(both, None, metrics=METRICS, exclude_self=True, limit=7)
    result = bench.client.evaluate(given)
    vectors = embed(both)
    expected = reference(vectors @ vectors.T, both, both, 7)
    for name, values in expected.items():
        assert result.metrics.values[name] == pytest.approx(np.mean(values), abs=1e-9), name


def test_progress_is_told_step_by_step(bench: Bench) -> None:
    given = bench.request(seed=101)
    bench.client.push(given)
    *progress, last = bench.client.updates(given)
    assert last.HasField("result")
    steps = [each.progress.step for each in progress]
    assert steps[0] == wire.EVALUATION_STEP_QUEUED
    assert wire.EVALUATION_STEP_INDEXING in steps
    indexing = [each.progress for each in progress if each.progress.step == wire.EVALUATION_STEP_INDEXING]
    assert {each.total for each in indexing} == {300}
    done = [each.done for each in indexing]
    assert done == sorted(done)
    assert 0 <= done[0] <= done[-1] <= 300


def test_the_same_call_is_answered_from_memory(bench: Bench) -> None:
    given = bench.request(seed=102, example_count=2)
    first = bench.client.evaluate(given)
    assert first.computed
    # The run is for logs only.
    given.run = "runs/other"
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        (only,) = bench.client.updates(given)
        seconds.append(time.perf_counter() - started)
        assert not only.result.computed
        first.computed = False
        assert only.result == first
    assert min(seconds) < 0.05


def test_calls_at_the_same_time_join(bench: Bench) -> None:
    given = bench.request(seed=103)
    bench.client.push(given)
    results: list[wire.EvaluationResult] = []

    def ask() -> None:
        *_, last = bench.client.updates(given)
        results.append(last.result)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(result.computed for result in results) == [False, False, True]
    assert len({result.per_query.blake3 for result in results}) == 1


def test_examples_show_the_same_queries_for_every_checkpoint(bench: Bench) -> None:
    weaker = replace(bench, weights=support.weights(bench.store, factor=0.3))
    shown = []
    for each in (bench, weaker):
        result = each.client.evaluate(each.request(example_count=5, seed=3, limit=4))
        shown.append(json.loads(bench.client.read(result.examples))["queries"])
    assert [query["id"] for query in shown[0]] == [query["id"] for query in shown[1]]
    assert shown[0] != shown[1]
    text_of = {item.id: item.text for item in QUERIES.items + DOCUMENTS.items}
    label_of = {item.id: item.label for item in QUERIES.items + DOCUMENTS.items}
    assert len(shown[0]) == 5
    for query in shown[0]:
        assert query["text"] == text_of[query["id"]]
        assert [each["score"] for each in query["results"]] == sorted(
            (e["score"] for e in query["results"]), reverse=True
        )
        assert len(query["results"]) == 4
        for found in query["results"]:
            assert found["text"] == text_of[found["id"]]
            assert found["relevant"] == (label_of[found["id"]] == label_of[query["id"]])


def test_a_sample_of_the_queries_is_the_same_for_every_checkpoint(bench: Bench) -> None:
    first = bench.client.evaluate(bench.request(query_sample_size=10, seed=4, example_count=10))
    weaker = replace(bench, weights=support.weights(bench.store, factor=0.3))
    second = weaker.client.evaluate(weaker.request(query_sample_size=10, seed=4, example_count=10))
    assert first.query_count == second.query_count == 10
    ids = [[q["id"] for q in json.loads(bench.client.read(each.examples))["queries"]] for each in (first, second)]
    assert ids[0] == ids[1]


def test_bfloat16_is_close(bench: Bench) -> None:
    exact = bench.client.evaluate(bench.request(metrics=["ndcg@10"]))
    rough = bench.client.evaluate(bench.request(metrics=["ndcg@10"], precision=evaluation_pb2.PRECISION_BF16))
    assert rough.metrics.values["ndcg@10"] == pytest.approx(exact.metrics.values["ndcg@10"], abs=0.05)


def test_an_engine_killed_in_the_middle_changes_nothing(bench: Bench) -> None:
    some = Dataset("items", DOCUMENTS.items[:100])
    expected = bench.client.evaluate(bench.request(documents=some))
    # Batches of one text, so that there is time to kill it.
    given = bench.request(documents=some, batch_size=1)
    bench.client.push(given)
    before = bench.client.engine()
    killed = False
    for update in bench.client.updates(given):
        if not killed and update.progress.step == wire.EVALUATION_STEP_INDEXING:
            before.kill()
            killed = True
    assert killed
    assert update.result.computed
    for name, value in expected.metrics.values.items():
        assert update.result.metrics.values[name] == pytest.approx(value, abs=1e-6)
    assert bench.client.engine().pid != before.pid


def test_weights_that_are_not_numbers_fail_with_a_sentence_that_names_texts(bench: Bench) -> None:
    broken = replace(bench, weights=support.weights(bench.store, factor=float("nan")))
    given = broken.request(seed=105)
    with pytest.raises(EvaluationFailedError, match=r"not finite .* for the query 'q[0-9a-f]+'.* and 35 more"):
        broken.client.evaluate(given)
    # The model is as good as before afterwards.
    assert bench.client.evaluate(bench.request(seed=105)).metrics.values["hit_at_k"] > 0.1


def test_a_caller_who_leaves_stops_the_work(bench: Bench) -> None:
    many = support.translations("en", 5000, "m")
    given = bench.request(documents=many, batch_size=1, seed=106)
    bench.client.push(given)
    call = bench.client.stub.Evaluate(given, timeout=120)
    for update in call:
        if update.progress.step == wire.EVALUATION_STEP_INDEXING:
            call.cancel()
            break
    started = time.perf_counter()
    with pytest.raises(CancelledError):
        list(call)
    # The device is free for others long before the work would have ended.
    assert bench.client.evaluate(bench.request(seed=106)).computed
    assert time.perf_counter() - started < 10
    # And nothing was remembered.
    assert bench.client.updates(given).__next__().HasField("progress")


def test_files_that_were_not_uploaded_are_asked_for(bench: Bench) -> None:
    other = Dataset("items", (Item("x", "a text that nobody sent", label="1"),))
    given = bench.request(documents=other)
    with pytest.raises(BlobsMissingError, match=r"2 of the evaluation's files are not here") as caught:
        list(bench.client.updates(given))
    assert caught.value.details["count"] == "2"


def test_everything_wrong_with_a_request_is_listed(bench: Bench) -> None:
    plan = evaluation_pb2.EvaluationPlan(limit=1001, example_count=-1, metrics=["ndgc@10", "ndcg@5000"], model="towers")
    # Distance (field 6) 9: a value of a later version of the contract.
    plan.MergeFromString(b"\x30\x09")
    given = wire.EvaluateRequest(model=minilm(layers=9), plan=plan)
    with pytest.raises(InvalidRequestError) as caught:
        list(bench.client.updates(given))
    assert {problem.field for problem in caught.value.problems} == {
        "model.layers",
        "plan.distance",
        "plan.example_count",
        "plan.limit",
        "plan.metrics",
        "plan.model",
        "plan.query_data",
    }
    assert len([problem for problem in caught.value.problems if problem.field == "plan.metrics"]) == 2


def test_weights_of_another_model_are_refused(bench: Bench) -> None:
    given = bench.request(seed=107)
    given.model.CopyFrom(minilm(layers=2))
    with pytest.raises(EvaluationFailedError, match=r"does not fit the model \(16 tensors\): unexpected"):
        bench.client.evaluate(given)


def test_queries_without_labels_are_refused(bench: Bench) -> None:
    bare = Dataset("items", tuple(Item(item.id, item.text) for item in QUERIES.items))
    with pytest.raises(EvaluationFailedError, match="neither labels nor judgements"):
        bench.client.evaluate(bench.request(bare))


def test_queries_without_anything_relevant_are_counted(bench: Bench) -> None:
    lost = Dataset("items", (*QUERIES.items[:3], Item("q-lost", "nichts", label="nothing like it")))
    result = bench.client.evaluate(bench.request(lost))
    assert result.queries_without_relevant == 1
    assert any("1 of 4 queries have no relevant document" in warning for warning in result.warnings)


def test_judgements_count_as_labels_do(bench: Bench) -> None:
    id_of = {item.label: item.id for item in DOCUMENTS.items}
    judged = Dataset(
        "items",
        tuple(
            Item(item.id, item.text, relevant={id_of[item.label]: 1.0} if item.label in id_of else {"elsewhere": 1.0})
            for item in QUERIES.items
        ),
    )
    labelled = bench.client.evaluate(bench.request())
    assert bench.client.evaluate(bench.request(judged)).metrics == labelled.metrics


def test_metrics_are_listed(bench: Bench) -> None:
    listed = bench.client.stub.ListMetrics(wire.ListMetricsRequest()).metrics
    assert set(DEFAULT_METRICS) <= {metric.name for metric in listed}
    assert [metric.name for metric in listed] == sorted(metric.name for metric in listed)


def test_results_survive_a_restart_and_the_engine_ends_with_the_service(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "mine")
    config = EvaluatorConfig(port=0, state_dir=tmp_path / "state", drain_seconds=1)
    small = Dataset("items", QUERIES.items[:5])
    given = support.request(store, support.weights(store), small, DOCUMENTS, example_count=1)
    with support.running(config, store) as client:
        first = client.evaluate(given)
        engine = client.engine()
    assert not psutil.pid_exists(engine.pid)
    with support.running(config, store) as client:
        (only,) = client.updates(given)
        assert not only.result.computed
        assert only.result.metrics == first.metrics
        assert json.loads(client.read(first.examples))["queries"][0]["results"]


def test_a_result_whose_files_were_evicted_is_computed_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "mine")
    # Room for nothing: after each evaluation all but its own files go.
    config = EvaluatorConfig(port=0, state_dir=tmp_path / "state", drain_seconds=1, blob_limit_bytes=1)
    small = Dataset("items", QUERIES.items[:5])
    checkpoint = support.weights(store)
    one = support.request(store, checkpoint, small, DOCUMENTS)
    other = support.request(store, checkpoint, small, DOCUMENTS, limit=3)
    with support.running(config, store) as client:
        assert client.evaluate(one).computed
        assert not client.evaluate(one).computed
        assert client.evaluate(other).computed
        assert client.evaluate(one).computed
        held = {ref.blake3 for ref, _ in client.blobs.find_missing([datasets.save(small, store).files[0].blob])}
        assert not held


def test_without_a_checkpoint_the_model_is_measured_as_it_was_built(bench: Bench) -> None:
    other = bench.request(seed=11)
    other.checkpoint.CopyFrom(support.weights(bench.store, factor=0.0))
    spoiled = bench.client.evaluate(other)
    bare = bench.request(seed=11)
    bare.checkpoint.Clear()
    built = bench.client.evaluate(bare)
    assert built.computed
    assert dict(built.metrics.values) == dict(bench.client.evaluate(bench.request(seed=11)).metrics.values)
    assert dict(built.metrics.values) != dict(spoiled.metrics.values)
