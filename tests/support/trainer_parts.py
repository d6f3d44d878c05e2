"""The parts of a trainer service that events pass, without workers of its own: for tests of the way of events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from support.server import running
from tunevane.api.trainer.v1 import run_pb2, runner_service_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1 import event_pb2
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.runner_servicer import RunnerServicer
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore

RUN = "runs/some-run"
UID = "0f3a"


class Listener:
    """Hears workers live."""

    def __init__(self) -> None:
        self.heard = threading.Event()

    def heard_from(self, name: str) -> None:
        self.heard.set()


@dataclass
class Parts:
    """A store with one run, and the service that takes its worker's events."""

    runs: Runs
    address: str
    listener: Listener

    def texts(self) -> list[str]:
        """Lists the lines of the run's log."""
        return [event.log_written.text for event in self.events() if event.HasField("log_written")]

    def events(self) -> list[event_pb2.Event]:
        """Lists the run's events."""
        return asyncio.run(self.runs.call(lambda: self.runs.store.events(RUN, 0, 10_000_000)))

    def claim(self, token: str) -> int:
        """Gives the run to a worker, and returns the number of its first event."""
        asyncio.run(self.runs.call(lambda: self.runs.store.grant(RUN, token)))
        return asyncio.run(self.runs.call(lambda: self.runs.store.next_worker_sequence(RUN)))


@contextmanager
def trainer_parts(folder: Path) -> Iterator[Parts]:
    """Serves the parts until the block ends."""
    runs = make_runs(folder)
    listener = Listener()

    def register(server: grpc.aio.Server) -> list[str]:
        servicer = RunnerServicer(runs, listener, 30.0)  # type: ignore[arg-type]  # it only listens
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
        return [runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"].full_name]

    try:
        with running(register) as address:
            yield Parts(runs, address, listener)
    finally:
        runs.close()


def make_runs(folder: Path) -> Runs:
    """Opens a store with one run."""
    store = RunStore(folder / "runs.sqlite")
    store.create(run_pb2.Run(name=RUN, uid=UID, state=run_pb2.RUN_STATE_RUNNING), "request")
    return Runs(store, BlobStore(folder / "blobs"))
