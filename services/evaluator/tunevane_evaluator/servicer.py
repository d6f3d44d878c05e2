"""EvaluatorService: checks, remembers, and hands the rest to the lane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from prometheus_client import CollectorRegistry

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2, metric_pb2
from tunevane.core import metrics as scoring
from tunevane.errors import BlobsMissingError
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import plan as plans
from tunevane_evaluator.cache import make_room
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.device import Device
from tunevane_evaluator.lane import Lane, Report
from tunevane_evaluator.observe import Asked, EvaluatorMetrics
from tunevane_evaluator.results import Results
from tunevane_evaluator.stop import Stop

_log = log.get("evaluator")


class EvaluatorServicer(evaluator_service_pb2_grpc.EvaluatorServiceServicer):
    """Measures how well checkpoints retrieve."""

    def __init__(
        self, config: EvaluatorConfig, store: BlobStore, device: Device, metrics: EvaluatorMetrics | None = None
    ) -> None:
        self._metrics = EvaluatorMetrics(CollectorRegistry()) if metrics is None else metrics
        self._config = config
        self._store = store
        self._device = device
        self._lane = Lane(config.queue_limit, config.run_queue_limit, self._metrics)
        self._results = Results(config.state_dir / "results.sqlite")

    async def Evaluate(  # noqa: N802  # the contract's name
        self, request: wire.EvaluateRequest, context: Any
    ) -> AsyncIterator[wire.EvaluateResponse]:
        """Evaluates a checkpoint: progress, then the result."""
        with self._metrics.asked() as asked:
            async with aclosing(self._evaluate(request, asked)) as responses:
                async for response in responses:
                    yield response

    async def _evaluate(
        self, request: wire.EvaluateRequest, asked: Asked
    ) -> AsyncGenerator[wire.EvaluateResponse, None]:
        await asyncio.to_thread(plans.check, request)
        key = plans.key(request)
        remembered = await asyncio.to_thread(self._remembered, key)
        self._metrics.looked_up("result", hit=remembered is not None)
        if remembered is not None:
            asked.outcome = "remembered"
            yield wire.EvaluateResponse(result=remembered)
            return
        await asyncio.to_thread(self._demand_blobs, request)

        uses = frozenset(ref.blake3 for ref in plans.refs(request))

        def compute(stop: Stop, report: Report) -> wire.EvaluationResult:
            with log.about(run=request.run, epoch=request.cause.epoch):
                result = self._device.evaluate(request, report, stop)
                self._results.put(key, result)
                results = {ref.blake3 for ref in _files(result)}
                make_room(self._store, self._config.blob_limit_bytes, keep=uses | results | self._lane.in_use())
                _log.info(
                    "evaluated queries=%d documents=%d %s",
                    result.query_count,
                    result.document_count,
                    " ".join(f"{name}_seconds={value:.3f}" for name, value in sorted(result.seconds.items())),
                )
            return result

        # Closed at once when the caller leaves, so that work that nobody waits for stops.
        async with aclosing(self._lane.submit(key, request.run, uses, compute)) as updates:
            async for update in updates:
                if isinstance(update, wire.EvaluationResult):
                    asked.outcome = "computed" if update.computed else "joined"
                    yield wire.EvaluateResponse(result=update)
                else:
                    yield wire.EvaluateResponse(progress=update)

    def _remembered(self, key: str) -> wire.EvaluationResult | None:
        result = self._results.get(key)
        if result is None:
            return None
        files = _files(result)
        if self._store.missing(files):
            self._results.forget(key)
            return None
        self._store.touch(files)
        result.computed = False
        return result

    def _demand_blobs(self, request: wire.EvaluateRequest) -> None:
        refs = plans.refs(request)
        missing = self._store.missing(refs)
        if missing:
            raise BlobsMissingError(
                f"{len(missing)} of the evaluation's files are not here; upload them to this server first",
                {"count": str(len(missing)), "first": missing[0][0].blake3},
            )
        self._store.touch(refs)

    async def ListMetrics(  # noqa: N802  # the contract's name
        self, request: wire.ListMetricsRequest, context: Any
    ) -> wire.ListMetricsResponse:
        """Lists the metrics that plans can name."""
        directions = {"max": metric_pb2.DIRECTION_MAXIMIZE, "min": metric_pb2.DIRECTION_MINIMIZE}
        specs = [
            metric_pb2.MetricSpec(name=info.name, direction=directions[info.direction], description=info.formula)
            for info in sorted(scoring.list_metrics(), key=lambda info: info.name)
        ]
        return wire.ListMetricsResponse(metrics=specs)

    def end(self) -> None:
        """Ends the evaluations under way, because the service is about to stop; called in the event loop."""
        self._lane.end()

    def close(self) -> None:
        """Stops what is under way."""
        self._lane.close()
        self._results.close()


def _files(result: wire.EvaluationResult) -> list[blob_pb2.BlobRef]:
    """Lists the blobs that a result names."""
    return [result.per_query, *([result.examples] if result.HasField("examples") else [])]
