"""A real tracker on loopback, for tests whose client is synchronous."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from support.background import in_background
from support.waits import eventually as eventually  # tests of the tracker wait for its deliveries
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

    async def main(ready: Callable[[tuple[int, int]], None], stopping: asyncio.Event) -> None:
        await run(config, on_started=lambda port, http_port: ready((port, http_port)), stopping=stopping)

    with in_background(main) as (port, http_port), connect(f"127.0.0.1:{port}") as channel:
        yield Served(TrackerServiceStub(channel), http_port, f"127.0.0.1:{port}")


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
