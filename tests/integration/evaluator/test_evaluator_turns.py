"""The evaluator's manners over gRPC: memory at once, limits with a hint, and a prompt end however it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support import evaluator_service as support
from support import ready_vectors
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.core.search_settings import SearchSettings
from tunevane.errors import CancelledError, DeadlineExceededError, ResourceExhaustedError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import evaluation
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.engine import Engine
from tunevane_evaluator.index.port import VectorIndex
from tunevane_evaluator.stop import Stop

QUERIES = support.translations("de", 5, "q")
DOCUMENTS = support.translations("en", 100, "d")
MANY = support.translations("en", 1200, "m")
"""Enough, a text at a time, that an evaluation is still under way when something happens to it."""


class Bench:
    """A store, and requests whose files are in it."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder / "mine")
        self.config = EvaluatorConfig(port=0, state_dir=folder / "state", drain_seconds=20, run_queue_limit=2)
        self.weights = support.weights(self.store)

    def long(self, seed: int, run: str = "runs/test") -> wire.EvaluateRequest:
        return support.request(self.store, self.weights, QUERIES, MANY, run=run, batch_size=1, seed=seed)

    def short(self, seed: int) -> wire.EvaluateRequest:
        return support.request(self.store, self.weights, QUERIES, DOCUMENTS, seed=seed, run="runs/short")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("turns"))


@pytest.fixture(scope="module")
def client(bench: Bench) -> Iterator[support.Client]:
    with support.running(bench.config, bench.store) as made:
        made.push(bench.long(0))
        yield made


def begin(client: support.Client, request: wire.EvaluateRequest) -> Iterator[wire.EvaluateResponse]:
    """Asks, and returns once it waits or is under way."""
    call: Iterator[wire.EvaluateResponse] = client.stub.Evaluate(request, timeout=120)
    assert next(call).HasField("progress")
    return call


def until_indexing(call: Iterator[wire.EvaluateResponse]) -> None:
    assert any(update.progress.step == wire.EVALUATION_STEP_INDEXING for update in call)


def test_a_remembered_result_is_there_within_ten_milliseconds(bench: Bench, client: support.Client) -> None:
    given = bench.short(1)
    first = client.evaluate(given)
    seconds = []
    for _ in range(100):
        began = time.perf_counter()
        (only,) = client.updates(given)
        seconds.append(time.perf_counter() - began)
        assert only.result.metrics == first.metrics
    # The fastest tell what it costs; the others, how busy the machine is.
    assert float(np.mean(sorted(seconds)[:10])) < 0.01


def test_a_run_that_asks_for_much_is_told_when_to_come_again(bench: Bench, client: support.Client) -> None:
    calls = [begin(client, bench.long(seed, run="runs/greedy")) for seed in (2, 3)]
    with pytest.raises(ResourceExhaustedError, match="2 evaluations of this run wait already") as caught:
        list(client.updates(bench.long(4, run="runs/greedy")))
    assert float(caught.value.details["retry_after_seconds"]) >= 1
    # Another run is served as soon as the one under way has ended.
    other = begin(client, bench.short(5))
    for call in calls:
        call.cancel()  # type: ignore[attr-defined]  # grpc's calls are iterators that can be cancelled
    *_, last = other
    assert last.result.computed


def test_a_deadline_frees_the_device(bench: Bench, client: support.Client) -> None:
    with pytest.raises(DeadlineExceededError):
        list(client.stub.Evaluate(bench.long(6), timeout=1.5))
    began = time.perf_counter()
    # Remembered results need no device; this one does.
    assert client.evaluate(bench.short(7)).computed
    assert time.perf_counter() - began < 5


def test_evaluations_end_at_once_when_the_service_does(bench: Bench, tmp_path: Path) -> None:
    ended: list[float] = []
    with support.running(EvaluatorConfig(port=0, state_dir=tmp_path, drain_seconds=60), bench.store) as client:
        client.push(bench.long(8))
        until_indexing(running := begin(client, bench.long(8)))
        waiting = begin(client, bench.long(9))

        def listen(call: Iterator[wire.EvaluateResponse]) -> None:
            with pytest.raises(UnavailableError, match="about to stop; ask again"):
                list(call)
            ended.append(time.perf_counter())

        threads = [threading.Thread(target=listen, args=[call]) for call in (running, waiting)]
        for thread in threads:
            thread.start()
        client.stop()
        began = time.perf_counter()
        for thread in threads:
            thread.join(30)
    assert len(ended) == 2
    assert max(ended) - began < 2
    assert time.perf_counter() - began < 15


class Slow:
    """An index of the real engine that tells when a step has begun."""

    def __init__(self, inner: VectorIndex, step: str, begun: threading.Event) -> None:
        self._inner, self._step, self._begun = inner, step, begun

    def __getattr__(self, name: str) -> object:
        if name == self._step:
            self._begun.set()
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("step", "search"), [("add", []), ("seal", ["hnsw:m=64,ef_construct=2000"]), ("search", []), ("create", [])]
)
def test_work_stops_within_a_second_at_every_step(tmp_path: Path, step: str, search: list[str]) -> None:
    """Sizes at which each step would take several seconds."""
    random = np.random.default_rng(0)
    documents = random.normal(size=(30_000, 128)).astype(np.float32)
    queries = random.normal(size=(20_000 if step == "search" else 5, 128)).astype(np.float32)
    engine, stop, begun = Engine(EvaluatorConfig(state_dir=tmp_path / "state")), Stop(), threading.Event()
    opener = engine.opener("stopped", stop.check)

    def open_index(euclidean: bool, settings: SearchSettings) -> VectorIndex:
        index = opener(euclidean, settings)
        # Only the graph's index is watched where there is one.
        return index if search and settings.is_exact else Slow(index, step, begun)  # type: ignore[return-value]

    work = ready_vectors.work(
        tmp_path / "blobs", queries, documents, [1] * len(queries), [1] * len(documents), open_index,
        {"metrics": ["hit@1"], "search": search}, stop.check,
    )  # fmt: skip
    failures: list[tuple[BaseException, float]] = []

    def run() -> None:
        try:
            evaluation.run(work)
        except BaseException as error:
            failures.append((error, time.perf_counter()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(60)
        if step in ("seal", "search"):
            # In the middle of the step, not at its edge.
            thread.join(0.3)
        assert thread.is_alive()
        asked = time.perf_counter()
        stop.set()
        thread.join(30)
        ((error, when),) = failures
        assert isinstance(error, CancelledError)
        assert when - asked < 1.0
        # The engine is there for the next one.
        assert engine._connection().check().startswith("edge")
    finally:
        engine.close()
