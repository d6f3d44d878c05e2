"""A real tracker on loopback, for tests whose client is synchronous."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.rpc.channel import connect
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.service import run

NAME = "some-run"
UID = "0f3a"


@dataclass(frozen=True)
class Served:
    """A tracker that runs."""

    stub: TrackerServiceStub
    """Its gRPC side."""

    http_port: int
    """Where its pages are."""

    target: str = ""
    """Address of its gRPC side."""

    def publish(
        self, events: Sequence[Event], config: Mapping[str, object] | None = None, uid: str = UID
    ) -> pb.PublishEventsResponse:
        """Publishes events of the run `some-run`."""
        request = pb.PublishEventsRequest(run=f"runs/{NAME}", uid=uid, events=events)
        if config is not None:
            request.config.CopyFrom(json_format.ParseDict(dict(config), Struct()))
        return self.stub.PublishEvents(request)

    def get(self, path: str) -> tuple[int, str]:
        """Gets a page: status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def delivered(self, sink: str, uid: str = NAME) -> int:
        """Tells up to which event a sink has the run."""
        states = self.stub.GetTrackedRun(pb.GetTrackedRunRequest(run=f"runs/{uid}")).sinks
        return {state.sink: state.delivered_sequence for state in states}[sink]


@contextmanager
def tracker(config: TrackerConfig) -> Iterator[Served]:
    """Runs a tracker until the block ends."""
    started = threading.Event()
    ports: list[int] = []
    failure: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))

        def on_started(port: int, http_port: int) -> None:
            ports.extend((port, http_port))
            started.set()

        await run(config, on_started=on_started, stopping=stopping)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work, name="test-tracker")
    thread.start()
    try:
        assert started.wait(20), "the tracker did not start"
        if failure:
            raise failure[0]
        with connect(f"127.0.0.1:{ports[0]}") as channel:
            yield Served(TrackerServiceStub(channel), ports[1], f"127.0.0.1:{ports[0]}")
    finally:
        if thread.is_alive():
            stop[0]()
        thread.join(30)
        assert not thread.is_alive(), "the tracker did not stop"


def eventually(holds: Callable[[], bool], timeout_seconds: float = 25.0) -> None:
    """Waits until something that another process does has happened."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.05)


def sink_processes(module: str) -> list[psutil.Process]:
    """Lists the processes of sinks that run a module."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if module in child.cmdline():
                found.append(child)
    return found


def kill(process: psutil.Process) -> None:
    """Kills a process, as the kernel would, and waits until it is gone."""
    with suppress(psutil.NoSuchProcess):
        process.kill()
        eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def kill_wandb() -> None:
    """Kills the only process that runs wandb."""
    (child,) = sink_processes("tunevane_tracker.sinks.wandb.child")
    kill(child)
