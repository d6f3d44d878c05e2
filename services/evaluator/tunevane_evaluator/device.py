"""The warm model and the index engine: what the one worker thread owns. Torch begins here, at the first evaluation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import DataLossError, EvaluationFailedError, PreconditionError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.index.child import EdgeProcess
from tunevane_evaluator.index.qdrant import QdrantConnection, QdrantIndex, parse_url

if TYPE_CHECKING:
    from tunevane.nn.encode import Encoder

_log = log.get("device")

ATTEMPTS = 4


class Device:
    """Evaluates one request at a time."""

    def __init__(self, config: EvaluatorConfig, store: BlobStore) -> None:
        self._config = config
        self._store = store
        self._encoder: Encoder | None = None
        self._built: bytes = b""
        self._loaded: bytes = b""
        self._edge = None if config.qdrant_url else EdgeProcess(config.state_dir / "edge")
        self._server: QdrantConnection | None = None

    @property
    def edge(self) -> EdgeProcess | None:
        """The embedded engine's process; None with a server."""
        return self._edge

    def _connection(self) -> QdrantConnection:
        if self._edge is not None:
            return self._edge.connection()
        if self._server is None:
            assert self._config.qdrant_url is not None
            self._server = QdrantConnection(parse_url(self._config.qdrant_url, self._config.qdrant_api_key))
            _log.info("connected qdrant=%s version=%s", self._config.qdrant_url, self._server.check())
            for name in self._server.sweep(time.time()):
                _log.info("dropped leftover collection=%s", name)
        return self._server

    def evaluate(
        self,
        request: wire.EvaluateRequest,
        report: Callable[[wire.EvaluationProgress], None],
        check: Callable[[], None],
    ) -> wire.EvaluationResult:
        """Evaluates, again from the start of the index when the database went away.

        Raises:
            EvaluationFailedError: It cannot succeed, however often it is tried.
            UnavailableError: The database stayed away.

        """
        from tunevane_evaluator import evaluation

        report(wire.EvaluationProgress(step=wire.EVALUATION_STEP_LOADING))
        started = time.perf_counter()
        encoder = self._warm(request)
        loading = time.perf_counter() - started
        for attempt in range(1, ATTEMPTS + 1):
            check()
            try:
                index = QdrantIndex(
                    self._connection(), request.run.rpartition("/")[2], euclidean=evaluation.is_euclidean(request.plan)
                )
                work = evaluation.Work(request, encoder, index, self._store, report, check, {"load": loading})
                return evaluation.run(work)
            except UnavailableError as error:
                if attempt == ATTEMPTS:
                    raise
                pause = min(0.2 * 2**attempt, 5.0) * random.uniform(0.5, 1.0)  # only spreads retries
                _log.warning("repeating evaluation run=%s attempt=%d why=%s", request.run, attempt, error)
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _warm(self, request: wire.EvaluateRequest) -> Encoder:
        """Returns the model with the checkpoint's weights; builds it only when another model is asked for."""
        from tunevane.nn import checkpoint, device, models
        from tunevane.nn.encode import Encoder

        wanted = request.model.SerializeToString(deterministic=True)
        if self._encoder is None or self._built != wanted:
            self._encoder, self._built, self._loaded = None, b"", b""
            model = models.build(request.model, self._store)
            self._encoder = Encoder(model.to(device.choose(self._config.device)))
            self._built = wanted
        weights = request.checkpoint.SerializeToString(deterministic=True)
        if self._loaded != weights:
            self._loaded = b""
            try:
                checkpoint.load(self._encoder.model, request.checkpoint, self._store)
            except (PreconditionError, DataLossError) as error:
                raise EvaluationFailedError(str(error)) from error
            self._loaded = weights
        return self._encoder

    def close(self) -> None:
        """Ends the embedded engine, or the connection."""
        if self._edge is not None:
            self._edge.close()
        if self._server is not None:
            self._server.close()
