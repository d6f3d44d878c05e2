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
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.mirror import Mirror
from tunevane_trainer.publisher import Publisher
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
    loop: asyncio.AbstractEventLoop

    def texts(self) -> list[str]:
        """Lists the lines of the run's log."""
        return [event.log_written.text for event in self.events() if event.HasField("log_written")]

    def events(self, run: str = RUN) -> list[event_pb2.Event]:
        """Lists a run's events."""
        return asyncio.run(self.runs.call(lambda: self.runs.store.events(run, 0, 10_000_000)))

    def unmirrored(self) -> list[tuple[str, int]]:
        """Lists runs with events that the tracker has not acknowledged."""
        return asyncio.run(self.runs.call(self.runs.store.unmirrored))

    def create(self, run: str) -> None:
        """Makes another run."""
        made = run_pb2.Run(name=run, uid=run.removeprefix("runs/"), state=run_pb2.RUN_STATE_RUNNING)
        asyncio.run(self.runs.call(lambda: self.runs.store.create(made, run)))

    def append(self, run: str, *texts: str) -> None:
        """Adds lines to a run's log."""
        events = [event_pb2.Event(log_written=event_pb2.LogWritten(text=text)) for text in texts]
        asyncio.run_coroutine_threadsafe(self.runs.append(run, events), self.loop).result(30)

    def claim(self, token: str) -> int:
        """Gives the run to a worker, and returns the number of its first event."""
        asyncio.run(self.runs.call(lambda: self.runs.store.grant(RUN, token)))
        return asyncio.run(self.runs.call(lambda: self.runs.store.next_worker_sequence(RUN)))


@contextmanager
def trainer_parts(folder: Path, tracker: str | None = None) -> Iterator[Parts]:
    """Serves the parts, and mirrors to a tracker at an address, until the block ends."""
    runs = make_runs(folder)
    listener = Listener()
    channel = None if tracker is None else connect(tracker)
    mirroring: list[asyncio.Task[None]] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def register(server: grpc.aio.Server) -> list[str]:
        loops.append(asyncio.get_running_loop())
        if channel is not None:
            publisher = Publisher(folder / "publisher.json")
            mirror = Mirror(runs, channel, publisher=publisher, first_pause_seconds=0.05)
            mirroring.append(asyncio.ensure_future(mirror.run()))
        servicer = RunnerServicer(runs, listener, 30.0)  # type: ignore[arg-type]  # it only listens
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
        return [runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"].full_name]

    try:
        with running(register) as address:
            yield Parts(runs, address, listener, loops[0])
    finally:
        runs.close()
        if channel is not None:
            channel.close()


def make_runs(folder: Path) -> Runs:
    """Opens a store with one run."""
    store = RunStore(folder / "runs.sqlite")
    store.create(run_pb2.Run(name=RUN, uid=UID, state=run_pb2.RUN_STATE_RUNNING), "request")
    return Runs(store, BlobStore(folder / "blobs"))
