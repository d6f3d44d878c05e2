"""The warm model and the index engine: what the one worker thread owns. Torch begins here, at the first evaluation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.errors import (
    BlobsMissingError,
    DataLossError,
    EvaluationFailedError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.engine import Engine
from tunevane_evaluator.observe import EvaluatorMetrics
from tunevane_evaluator.stop import Stop

# Torch and qdrant-client take seconds to import, so the methods that need them do it.
if TYPE_CHECKING:
    from tunevane.nn.encode import Encoder

_log = log.get("device")

ATTEMPTS = 4

MIXED = b"mixed"
"""Stands for weights that no request can name."""


class Device:
    """Evaluates one request at a time."""

    def __init__(self, config: EvaluatorConfig, store: BlobStore, metrics: EvaluatorMetrics | None = None) -> None:
        """Args: the settings, the store of weights, data sets and results, and who is told what was still warm."""
        self._metrics = EvaluatorMetrics(CollectorRegistry()) if metrics is None else metrics
        self._config = config
        self._store = store
        self._encoder: Encoder | None = None
        self._built: bytes = b""
        self._loaded: bytes = b""
        self._engine = Engine(config)

    @property
    def engine_pid(self) -> int | None:
        """Process id of the embedded engine; None before its first use, or without one."""
        return self._engine.pid

    def evaluate(
        self, request: wire.EvaluateRequest, report: Callable[[wire.EvaluationProgress], None], stop: Stop
    ) -> wire.EvaluationResult:
        """Evaluates, again from the start of the index when the database went away.

        Raises:
            BlobsMissingError: A file was removed from the cache while the evaluation waited.
            CancelledError: Nobody waits any more.
            EvaluationFailedError: It cannot succeed, however often it is tried.
            UnavailableError: The database stayed away.

        """
        report(wire.EvaluationProgress(step=wire.EVALUATION_STEP_LOADING))
        from tunevane.nn.encode import is_out_of_memory
        from tunevane_evaluator import blends, evaluation
        from tunevane_evaluator.oracle import MismatchError
        from tunevane_evaluator.work import Work

        try:
            attempt = 1
            while True:
                stop.check()
                started = time.perf_counter()
                encoder = self._warm(request)
                loading = time.perf_counter() - started
                try:
                    label = request.run.rpartition("/")[2]
                    open_index = self._engine.opener(label, stop.check)
                    work = Work(request, encoder, open_index, self._store, report, stop.check, {"load": loading})
                    result = evaluation.run(work)
                    result.precision = request.plan.precision or evaluation_pb2.PRECISION_FP32
                    if request.HasField("blends"):
                        self._loaded = MIXED
                        result.blends.extend(blends.measure(work, evaluation.run))
                    return result
                except UnavailableError as error:
                    if attempt == ATTEMPTS:
                        if isinstance(error, MismatchError):
                            raise EvaluationFailedError(str(error)) from error
                        raise
                    _log.warning("repeating evaluation run=%s attempt=%d why=%s", request.run, attempt, error)
                    stop.pause(0.2 * 2**attempt * random.uniform(0.5, 1.0))  # randomness only spreads retries
                    attempt += 1
        except NotFoundError as error:
            raise BlobsMissingError(
                f"a file was removed from the cache before it was read ({error}); upload the evaluation's files again"
            ) from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._encoder = None
            raise EvaluationFailedError(
                f"the device has not enough memory for this model, even for one item at a time: {error}"
            ) from error

    def _warm(self, request: wire.EvaluateRequest) -> Encoder:
        """Returns the model with the checkpoint's weights; builds it only when another model is asked for."""
        from tunevane.nn import checkpoint, device, models
        from tunevane.nn.encode import Encoder
        from tunevane.nn.feature_cache import FeatureCache

        wanted = request.model.SerializeToString(deterministic=True)
        weights = request.checkpoint.SerializeToString(deterministic=True)
        # Without a checkpoint the model is measured as it was built.
        used = not weights and self._loaded
        warm = self._encoder is not None and self._built == wanted and not used
        self._metrics.looked_up("model", hit=warm)
        if self._encoder is None or not warm:
            self._encoder, self._built, self._loaded = None, b"", b""
            model = models.build(request.model, self._store)
            features = FeatureCache(
                self._config.state_dir / "features",
                self._config.feature_limit_bytes,
                told=lambda hit: self._metrics.looked_up("features", hit=hit),
            )
            self._encoder = Encoder(model.to(device.choose(self._config.device)), features)
            self._built = wanted
        encoder = self._encoder
        self._metrics.looked_up("weights", hit=self._loaded == weights)
        if self._loaded != weights:
            # Until all of it is loaded the model is neither one nor the other.
            self._encoder = None
            try:
                checkpoint.load(encoder.model, request.checkpoint, self._store)
            except (PreconditionError, DataLossError) as error:
                raise EvaluationFailedError(str(error)) from error
            self._encoder, self._loaded = encoder, weights
        return encoder

    def close(self) -> None:
        """Ends the embedded engine, or the connection."""
        self._engine.close()
