"""Everything bad that can be asked of the evaluator, over gRPC: one sentence each, and it serves on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support import evaluator_service as support
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import BlobsMissingError, EvaluationFailedError, InvalidRequestError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig

QUERIES = support.translations("de", 5, "q")
DOCUMENTS = support.translations("en", 40, "d")


class Bench:
    """The running service, and weights for it."""

    def __init__(self, client: support.Client, store: BlobStore) -> None:
        self.client, self.store, self.weights = client, store, support.weights(store)

    def request(self, **plan: object) -> wire.EvaluateRequest:
        return support.request(self.store, self.weights, QUERIES, DOCUMENTS, **plan)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bad")
    store = BlobStore(folder / "mine")
    with support.running(EvaluatorConfig(port=0, state_dir=folder / "state", drain_seconds=1), store) as client:
        yield Bench(client, store)


@pytest.fixture(autouse=True)
def _serves_on(bench: Bench) -> Iterator[None]:
    """After whatever a test did, a good request is answered."""
    yield
    assert bench.client.evaluate(bench.request()).document_count == 40


@pytest.mark.parametrize(
    ("plan", "field", "sentence"),
    [
        ({"metrics": ["ndgc@10"]}, "plan.metrics", "'ndgc@10'"),
        ({"metrics": ["ndcg@0"]}, "plan.metrics", "ndcg@0"),
        ({"metrics": ["ndcg@1000000"]}, "plan.metrics", "looks at 1000000 results; at most 1000 are fetched"),
        ({"limit": 1_000_000}, "plan.limit", r"must be in \[1, 1000\], not 1000000"),
        ({"limit": -1}, "plan.limit", r"must be in \[1, 1000\], not -1"),
        ({"distance": 9}, "plan.distance", "has the unknown value 9"),
        ({"search": ["hsnw:m=16"]}, "plan.search", "unknown part 'hsnw:m=16'; there are distance=cosine"),
        ({"search": ["distance=hamming"]}, "plan.search", "is no distance; there are cosine, dot, euclidean"),
        ({"search": ["hnsw:m=1000000"]}, "plan.search", r"needs a whole number in \[4, 256\], not '1000000'"),
        ({"search": ["int8", "int8"]}, "plan.search", "'int8' are given twice"),
    ],
)
def test_what_a_plan_cannot_mean_is_refused_before_anything_is_uploaded(
    bench: Bench, plan: dict[str, object], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence) as caught:
        list(bench.client.updates(bench.request(**plan)))
    assert [problem.field for problem in caught.value.problems] == [field]


def test_a_limit_of_zero_is_the_default(bench: Bench) -> None:
    assert bench.client.evaluate(bench.request(limit=0)).metrics == bench.client.evaluate(bench.request()).metrics


def test_more_numbers_than_the_model_gives_are_refused(bench: Bench) -> None:
    with pytest.raises(EvaluationFailedError, match="asks for dims=400, but the model's embeddings have 384 numbers"):
        bench.client.evaluate(bench.request(search=["dims=400"]))


def test_embeddings_that_are_no_numbers_name_the_texts(bench: Bench) -> None:
    given = bench.request()
    given.checkpoint.CopyFrom(support.weights(bench.store, factor=float("nan")))
    with pytest.raises(
        EvaluationFailedError, match=r"embeddings that are not finite \(NaN or infinite\) for the query 'q[0-9a-f]+'"
    ):
        bench.client.evaluate(given)


def files(bench: Bench, items: str, about: dict[str, object]) -> blob_pb2.Bundle:
    """Makes a bundle that looks like a data set."""
    put = bench.store.put_bytes
    return bundles.make({"dataset.json": put(json.dumps(about).encode()), "items.jsonl": put(items.encode())})


def about(bench: Bench, data: Dataset) -> dict[str, object]:
    """Returns what a real data set says of itself."""
    bundle = datasets.save(data, bench.store)
    made: dict[str, object] = json.loads(bench.store.read(bundles.get(bundle, "dataset.json")))
    return made


@pytest.mark.parametrize("which", ["query_data", "index_data"])
def test_an_empty_set_has_nothing_to_measure(bench: Bench, which: str) -> None:
    given = bench.request()
    empty = files(bench, "", about(bench, QUERIES) | {"items": 0})
    getattr(given.plan, which).CopyFrom(empty)
    with pytest.raises(EvaluationFailedError, match="empty|no items"):
        bench.client.evaluate(given)


@pytest.mark.parametrize(
    ("items", "count", "sentence"),
    [
        ('{"id": "a", "text": "one"\n', 1, "items.jsonl, line 1"),
        ('{"id": "a", "text": "one"}\n', 2, "dataset.json tells of 2 items"),
        ('{"id": 7, "text": "one"}\n', 1, "items.jsonl, line 1"),
    ],
)
def test_a_data_set_that_cannot_be_read_is_a_failed_evaluation(
    bench: Bench, items: str, count: int, sentence: str
) -> None:
    # Whoever chose to skip failed evaluations skips this one: the request itself was right.
    given = bench.request()
    given.plan.query_data.CopyFrom(files(bench, items, about(bench, QUERIES) | {"items": count}))
    with pytest.raises(EvaluationFailedError, match=f"^a data set cannot be read: .*{sentence}"):
        bench.client.evaluate(given)


def test_files_whose_digest_nobody_sent_are_asked_for(bench: Bench) -> None:
    given = bench.request(seed=9)
    given.plan.query_data.files[0].blob.blake3 = "0" * 64
    with pytest.raises(BlobsMissingError, match="1 of the evaluation's files are not here; upload them"):
        list(bench.client.updates(given))


def test_a_declared_size_that_lies_is_a_file_that_is_not_here(bench: Bench) -> None:
    given = bench.request(seed=10)
    bench.client.push(given)
    given.plan.query_data.files[0].blob.size_bytes += 1
    with pytest.raises(BlobsMissingError, match="1 of the evaluation's files are not here; upload them"):
        list(bench.client.updates(given))


def test_a_file_that_was_damaged_on_disk_is_asked_for_again(bench: Bench) -> None:
    given = bench.request(seed=11)
    bench.client.push(given)
    ref = given.plan.query_data.files[-1].blob
    file = BlobStore(bench.client.state_dir / "blobs").path(ref)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    with pytest.raises(BlobsMissingError, match="was damaged on disk and has been removed; upload it again"):
        list(bench.client.updates(given))
    # As it says.
    assert bench.client.evaluate(given).query_count == 5


def test_a_plan_without_anything_names_what_is_required(bench: Bench) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        list(bench.client.updates(wire.EvaluateRequest(plan=evaluation_pb2.EvaluationPlan())))
    assert {problem.field for problem in caught.value.problems} >= {"plan.query_data"}


def test_labels_without_a_meaning_are_refused(bench: Bench) -> None:
    bare = Dataset("items", tuple(Item(item.id, item.text) for item in QUERIES.items))
    given = bench.request()
    given.plan.query_data.CopyFrom(datasets.save(bare, bench.store))
    with pytest.raises(EvaluationFailedError, match="neither labels nor judgements"):
        bench.client.evaluate(given)
