"""A trainer service without workers: a test says what happens in its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from support.server import running
from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.rpc.blob_client import SERVICE_NAME as BLOBS
from tunevane.rpc.blobs import BlobServicer
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.runs import Runs, now
from tunevane_trainer.store import RunStore
from tunevane_trainer.trainer_servicer import TrainerServicer


@dataclass
class Trainer:
    """The service, and the hand of its workers."""

    runs: Runs
    """Its runs."""

    target: str
    """Its address."""

    loop: asyncio.AbstractEventLoop
    """Where it runs."""

    def create(self, name: str) -> None:
        """Adds a run that waits for a worker."""
        spec = run_pb2.RunSpec(epochs=8, batch_size=64)
        spec.model.name = "minilm"
        run = run_pb2.Run(name=f"runs/{name}", uid=name, spec=spec, state=run_pb2.RUN_STATE_PENDING, create_time=now())
        self._wait(self.runs.call(lambda: self.runs.store.create(run, name)))

    def append(self, name: str, events: Sequence[Event]) -> None:
        """Lets events happen in a run."""
        self._wait(self.runs.append(f"runs/{name}", events))

    def _wait(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)  # type: ignore[arg-type]  # a coroutine


@contextmanager
def trainer(folder: Path) -> Iterator[Trainer]:
    """Serves until the block ends."""
    blobs = BlobStore(folder / "blobs")
    runs = Runs(RunStore(folder / "runs.sqlite"), blobs)
    loops: list[asyncio.AbstractEventLoop] = []

    def register(server: grpc.aio.Server) -> list[str]:
        loops.append(asyncio.get_running_loop())
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(TrainerServicer(runs), server)
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(blobs), server)
        return [trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name, BLOBS]

    try:
        with running(register) as target:
            yield Trainer(runs, target, loops[0])
    finally:
        runs.close()
