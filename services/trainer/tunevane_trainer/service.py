"""The trainer service: from settings to a running server. It imports no torch; its workers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import grpc

from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.data.v1 import dataset_service_pb2, dataset_service_pb2_grpc
from tunevane.api.trainer.v1 import (
    runner_service_pb2,
    runner_service_pb2_grpc,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)
from tunevane.rpc import metrics
from tunevane.rpc.blob_client import SERVICE_NAME as BLOBS
from tunevane.rpc.blobs import BlobServicer
from tunevane.rpc.channel import connect
from tunevane.rpc.metrics_http import exposed
from tunevane.rpc.server import ServerOptions, serve
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.config import TrainerConfig
from tunevane_trainer.dataset_servicer import DatasetServicer
from tunevane_trainer.launch.process import ProcessLauncher
from tunevane_trainer.mirror import Mirror
from tunevane_trainer.observe import TrainerCollector, TrainerMetrics
from tunevane_trainer.publisher import Publisher
from tunevane_trainer.runner_servicer import RunnerServicer
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore
from tunevane_trainer.supervisor import Supervisor
from tunevane_trainer.trainer_servicer import TrainerServicer


async def run(
    config: TrainerConfig,
    *,
    on_started: Callable[[int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until it is told to stop.

    Raises:
        ConfigurationError: The port is in use, or the state cannot be read.

    """
    blobs = BlobStore(config.state_dir / "blobs")
    runs = Runs(RunStore(config.state_dir / "runs.sqlite"), blobs)
    registry = metrics.registry("trainer")
    observed = TrainerMetrics(registry)
    supervisor = Supervisor(
        runs,
        ProcessLauncher(config.state_dir, config.evaluator_blob_dir),
        evaluator=config.evaluator,
        max_workers=config.max_workers,
        lease_seconds=config.lease_seconds,
        grace_seconds=config.blob_grace_seconds,
        metrics=observed,
    )
    mirrored = config.tracker is not None
    registry.register(TrainerCollector(runs, supervisor.workers, config.max_workers, mirrored=mirrored))
    background: list[asyncio.Task[None]] = []
    tracker = connect(config.tracker) if config.tracker else None
    publisher = Publisher(config.state_dir / "publisher.json")

    def register(server: grpc.aio.Server) -> list[str]:
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(TrainerServicer(runs), server)
        runner = RunnerServicer(runs, supervisor, config.lease_seconds)
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(runner, server)
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(DatasetServicer(runs), server)
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(blobs), server)
        described = (trainer_service_pb2, runner_service_pb2, dataset_service_pb2)
        return [service.full_name for file in described for service in file.DESCRIPTOR.services_by_name.values()] + [
            BLOBS
        ]

    def begin(port: int) -> None:
        background.append(asyncio.ensure_future(supervisor.run(address_for_workers(config.host, port))))
        if tracker is not None:
            background.append(asyncio.ensure_future(Mirror(runs, tracker, observed, publisher=publisher).run()))
        if on_started is not None:
            on_started(port)

    options = ServerOptions(config.host, config.port, config.drain_seconds)
    calls = [metrics.CallMetrics(registry)]
    try:
        with exposed("trainer", config.metrics_host, config.metrics_port, registry):
            await serve("trainer", options, register, interceptors=calls, on_started=begin, stopping=stopping)
    finally:
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await supervisor.close()
        runs.close()
        if tracker is not None:
            tracker.close()


def address_for_workers(host: str, port: int) -> str:
    """Returns the address at which processes of this machine reach a server that listens on a host.

    One that listens on every address is reached by loopback, where no proxy of the environment gets in between.
    """
    if host == "0.0.0.0":  # noqa: S104  # compared, not bound
        return f"127.0.0.1:{port}"
    if host in ("::", "[::]"):
        return f"[::1]:{port}"
    return f"{host}:{port}"
