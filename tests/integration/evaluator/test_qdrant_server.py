"""A Qdrant server by URL: what it can do to an evaluation, a sentence for each, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as wire

from support import evaluator_service as support
from support import ready_vectors
from support.qdrant_server import QdrantServer, identity
from tunevane.api.evaluator.v1 import evaluator_service_pb2
from tunevane.errors import ConfigurationError, EvaluationFailedError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import evaluation
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.engine import Engine
from tunevane_evaluator.index import connection

RANDOM = np.random.default_rng(0)
DOCUMENTS = RANDOM.normal(size=(3000, 16)).astype(np.float32)
QUERIES = RANDOM.normal(size=(20, 16)).astype(np.float32)


@pytest.fixture
def server() -> Iterator[QdrantServer]:
    made = QdrantServer()
    yield made
    made.stop()


def config(folder: Path, server: QdrantServer, **settings: object) -> EvaluatorConfig:
    return EvaluatorConfig(state_dir=folder / "state", qdrant_url=server.url, **settings)  # type: ignore[arg-type]


def evaluate(settings: EvaluatorConfig, **plan: object) -> evaluator_service_pb2.EvaluationResult:
    engine = Engine(settings)
    try:
        opener = engine.opener("a run/of mine", ready_vectors.go_on)
        asked = {"metrics": ["ndcg@10"], **plan}
        labels = [number % 30 for number in range(3000)]
        given = ready_vectors.work(
            settings.state_dir / "blobs", QUERIES, DOCUMENTS, list(range(20)), labels, opener, asked
        )
        return evaluation.run(given)
    finally:
        engine.close()


def test_a_server_gives_what_the_embedded_engine_gives(server: QdrantServer, tmp_path: Path) -> None:
    search = ["hnsw:m=16,ef=64", "dims=8", "int8"]
    remote = evaluate(config(tmp_path, server), search=search)
    local = evaluate(EvaluatorConfig(state_dir=tmp_path / "local"), search=search)
    assert dict(remote.metrics.values) == pytest.approx(dict(local.metrics.values))
    assert [outcome.name for outcome in remote.search] == search
    assert not server.collections


def test_collections_are_made_for_exact_search_and_to_be_thrown_away(server: QdrantServer, tmp_path: Path) -> None:
    evaluate(config(tmp_path, server), search=["hnsw:m=24,ef_construct=50"])
    exact, graph = server.made
    assert exact.vectors_config.params.hnsw_config.m == 0
    assert exact.optimizers_config.indexing_threshold == 0
    assert exact.replication_factor == 1
    assert not exact.strict_mode_config.enabled
    assert exact.strict_mode_config.HasField("enabled")
    assert (graph.vectors_config.params.hnsw_config.m, graph.vectors_config.params.hnsw_config.ef_construct) == (24, 50)
    assert exact.collection_name != graph.collection_name
    assert exact.collection_name.startswith("eval-a-run-of-mine-")


@pytest.mark.parametrize("version", ["1.9.7", "0.11.0"])
def test_a_server_that_is_too_old_is_refused_with_a_sentence(tmp_path: Path, version: str) -> None:
    server = QdrantServer(version=version)
    try:
        with pytest.raises(EvaluationFailedError, match=rf"is version {version}, and tunevane needs 1\.10 or newer"):
            evaluate(config(tmp_path, server))
        assert not server.made
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (
            "QueryBatch",
            grpc.StatusCode.INVALID_ARGUMENT,
            'Limit exceeded 21 > 10 for "limit". Help: Reduce the "limit"',
        ),
        ("QueryBatch", grpc.StatusCode.PERMISSION_DENIED, "Forbidden: exact search is not allowed"),
        ("Upsert", grpc.StatusCode.INVALID_ARGUMENT, "Strict mode: max collection vector size reached"),
    ],
)
def test_strict_limits_are_told_in_one_sentence(
    server: QdrantServer, tmp_path: Path, call: str, code: grpc.StatusCode, said: str
) -> None:
    server.refusals[call] = (code, said)
    with pytest.raises(
        EvaluationFailedError, match=r"limits what may be asked \(strict mode\), and refused while"
    ) as caught:
        evaluate(config(tmp_path, server))
    assert said in str(caught.value)
    assert str(caught.value).endswith("; raise its limits, or ask for less")
    assert not server.collections


def test_a_size_that_the_server_does_not_take_is_told_in_its_words(server: QdrantServer, tmp_path: Path) -> None:
    server.refusals["Create"] = (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Validation error: vectors.size must be from 1 to 65536",
    )
    with pytest.raises(
        EvaluationFailedError, match=r"^Qdrant at 127\.0\.0\.1:\d+ refused while making a collection: Validation error"
    ):
        evaluate(config(tmp_path, server))


def test_vectors_of_another_size_are_told_in_its_words(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halve(name: str) -> None:
        if name == "Upsert":
            for each in server.collections.values():
                each.request.vectors_config.params.size = 8

    server.on_call = halve
    with pytest.raises(EvaluationFailedError, match="refused while storing vectors: .*expected dim: 8, got 16"):
        evaluate(config(tmp_path, server))
    assert not server.collections


def test_a_server_that_forgets_vectors_is_noticed(server: QdrantServer, tmp_path: Path) -> None:
    server.lose = 1
    with pytest.raises(UnavailableError, match=r"Qdrant holds 29\d\d vectors instead of 3000"):
        evaluate(config(tmp_path, server))
    assert not server.collections


def test_leftovers_of_the_dead_are_swept_when_the_evaluator_starts(server: QdrantServer, tmp_path: Path) -> None:
    now = int(time.time())
    names = {f"eval-run-x-{now - 7 * 3600}": False, f"eval-run-y-{now - 60}": True, "mine": True, "eval-no-time": True}
    for name in names:
        server._create(wire.CreateCollection(collection_name=name))
    evaluate(config(tmp_path, server))
    assert set(server.collections) == {name for name, stays in names.items() if stays}


def test_a_key_is_sent_over_tls_to_a_server_that_is_known(tmp_path: Path) -> None:
    private, certificate = identity()
    server = QdrantServer(api_key="a secret", identity=(private, certificate))
    (tmp_path / "ca.pem").write_bytes(certificate)
    trusted = {"qdrant_ca_file": tmp_path / "ca.pem"}
    try:
        result = evaluate(config(tmp_path, server, qdrant_api_key="a secret", **trusted))
        assert result.metrics.values["ndcg@10"] >= 0
        for key in ("another", None):
            with pytest.raises(
                EvaluationFailedError, match="refused the API key while saying hello: .*; set TUNEVANE_"
            ):
                evaluate(config(tmp_path, server, qdrant_api_key=key, **trusted))
        with pytest.raises(ConfigurationError, match=r"qdrant_ca_file names .*none\.pem: No such file"):
            evaluate(config(tmp_path, server, qdrant_ca_file=tmp_path / "none.pem"))
        assert not server.collections
    finally:
        server.stop()


def test_a_server_that_nobody_vouches_for_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_SECONDS", 1.0)
    server = QdrantServer(identity=identity())
    try:
        with pytest.raises(UnavailableError, match="went away while saying hello"):
            evaluate(config(tmp_path, server))
    finally:
        server.stop()


@pytest.mark.parametrize("call", ["Create", "Upsert", "Count", "QueryBatch"])
def test_a_server_that_goes_in_the_middle_and_comes_back_changes_nothing(tmp_path: Path, call: str) -> None:
    """Over gRPC with a real model: the evaluation starts anew, and nothing is left behind."""
    store = BlobStore(tmp_path / "mine")
    queries, documents = support.translations("de", 10, "q"), support.translations("en", 60, "d")
    given = support.request(store, support.weights(store), queries, documents)
    server = QdrantServer()
    leaving, gone = threading.Event(), threading.Event()
    calls: list[str] = []

    def restart() -> None:
        server.stop()
        gone.set()
        server.start()

    def vanish(name: str) -> None:
        calls.append(name)
        if name == call and not leaving.is_set():
            leaving.set()
            threading.Thread(target=restart).start()
            # This call is never answered.
            assert gone.wait(20)

    server.on_call = vanish
    try:
        with support.running(config(tmp_path, server, port=0, drain_seconds=1), store) as client:
            result = client.evaluate(given)
            assert result.document_count == 60
            assert gone.is_set()
            assert calls.count("Create") == 2
        assert not server.collections
        with support.running(EvaluatorConfig(port=0, state_dir=tmp_path / "other", drain_seconds=1), store) as client:
            assert dict(client.evaluate(given).metrics.values) == pytest.approx(dict(result.metrics.values))
    finally:
        server.stop()
