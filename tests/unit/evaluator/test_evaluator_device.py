"""What the device does when the world changes while an evaluation waits or runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import evaluator_service as support
from support.models import minilm
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.core import bundles
from tunevane.errors import BlobsMissingError, CancelledError, EvaluationFailedError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import device as module
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.device import Device
from tunevane_evaluator.index import child, connection
from tunevane_evaluator.stop import Stop

QUERIES = support.translations("de", 3, "q")
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def request_(store: BlobStore) -> wire.EvaluateRequest:
    return support.request(store, support.weights(store), QUERIES, None)


@pytest.fixture
def away(tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device whose server is not there."""
    monkeypatch.setattr(connection, "HELLO_SECONDS", 0.1)
    made = Device(EvaluatorConfig(state_dir=tmp_path, qdrant_url=NOBODY), store)
    yield made
    made.close()


def ignore(progress: wire.EvaluationProgress) -> None:
    """Hears nothing."""


def test_a_database_that_stays_away_is_named(
    away: Device, request_: wire.EvaluateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with pytest.raises(UnavailableError, match=r"Qdrant at 127\.0\.0\.1:1 went away while saying hello"):
        away.evaluate(request_, ignore, Stop())


def test_waiting_for_a_database_can_be_stopped(away: Device, request_: wire.EvaluateRequest) -> None:
    stop, waiting = Stop(), threading.Event()
    pause = stop.pause

    def paused(seconds: float) -> None:
        waiting.set()
        pause(60)

    stop.pause = paused  # type: ignore[method-assign]  # a pause that would be too long to sit out
    failures: list[BaseException] = []

    def run() -> None:
        try:
            away.evaluate(request_, ignore, stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert waiting.wait(30)
    stop.set()
    thread.join(5)
    assert [type(failure) for failure in failures] == [CancelledError]


def test_weights_that_were_evicted_are_asked_for(away: Device, request_: wire.EvaluateRequest, tmp_path: Path) -> None:
    elsewhere = BlobStore(tmp_path / "elsewhere")
    lost = wire.EvaluateRequest()
    lost.CopyFrom(request_)
    lost.checkpoint.CopyFrom(bundles.make({"0.safetensors": elsewhere.put_bytes(b"x" * 100)}))
    with pytest.raises(BlobsMissingError, match="removed from the cache before it was read"):
        away.evaluate(lost, ignore, Stop())


def test_weights_that_do_not_fit_fail_and_the_model_stays(away: Device, request_: wire.EvaluateRequest) -> None:
    other = wire.EvaluateRequest()
    other.CopyFrom(request_)
    other.model.CopyFrom(minilm(layers=1))
    with pytest.raises(EvaluationFailedError, match="does not fit the model"):
        away.evaluate(other, ignore, Stop())


def test_an_engine_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    process = child.EdgeProcess(tmp_path / "edge")
    with pytest.raises(UnavailableError, match="the embedded Qdrant engine did not start"):
        process.connection()
    assert process.pid is None
    process.close()
