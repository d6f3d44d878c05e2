"""The evaluator service: from settings to a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.evaluator.v1 import evaluator_service_pb2, evaluator_service_pb2_grpc
from tunevane.rpc import metrics
from tunevane.rpc.blobs import SERVICE_NAME as BLOBS
from tunevane.rpc.blobs import BlobServicer
from tunevane.rpc.metrics_http import exposed
from tunevane.rpc.server import ServerOptions, serve
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_evaluator.device import Device
from tunevane_evaluator.observe import EvaluatorMetrics
from tunevane_evaluator.servicer import EvaluatorServicer

EVALUATOR = evaluator_service_pb2.DESCRIPTOR.services_by_name["EvaluatorService"].full_name


async def run(
    config: EvaluatorConfig,
    *,
    on_started: Callable[[int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until it is told to stop.

    Raises:
        ConfigurationError: The port is in use, or a state file cannot be read.

    """
    store = BlobStore(config.state_dir / "blobs")
    registry = metrics.registry("evaluator")
    observed = EvaluatorMetrics(registry)
    device = Device(config, store, observed)
    servicer = EvaluatorServicer(config, store, device, observed)

    def register(server: grpc.aio.Server) -> list[str]:
        evaluator_service_pb2_grpc.add_EvaluatorServiceServicer_to_server(servicer, server)
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(store), server)
        return [EVALUATOR, BLOBS]

    options = ServerOptions(config.host, config.port, config.drain_seconds)
    calls = [metrics.CallMetrics(registry)]
    stop = asyncio.Event() if stopping is None else stopping

    async def end() -> None:
        await stop.wait()
        servicer.end()

    ending = asyncio.create_task(end())
    try:
        with exposed("evaluator", config.metrics_host, config.metrics_port, registry):
            await serve("evaluator", options, register, interceptors=calls, on_started=on_started, stopping=stop)
    finally:
        ending.cancel()
        await asyncio.to_thread(servicer.close)
        await asyncio.to_thread(device.close)
