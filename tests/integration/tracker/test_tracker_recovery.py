"""After kill -9 the tracker is back within seconds, with every acknowledged event and the right state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.tracker_events import numbered
from support.tracker_process import TrackerProcess
from support.waits import eventually
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.tracker.v1.tracker_service_pb2_grpc import TrackerServiceStub
from tunevane.api.type.v1.event_pb2 import Event, RunStarted, StepReported
from tunevane.rpc.channel import connect

SECONDS = 5.0


def recovered(folder: Path, events: int) -> float:
    """Publishes events, kills the tracker, starts it again; returns the seconds until it shows the newest event."""
    tracker = TrackerProcess(folder)
    try:
        with connect(tracker.target) as channel:
            stub = TrackerServiceStub(channel)
            for first in range(1, events + 1, 1000):
                batch = numbered(
                    [
                        Event(step=step, step_reported=StepReported(batch=step, loss=1.0 / step, learning_rate=1e-5))
                        for step in range(first, first + 1000)
                    ],
                    first,
                )
                if first == 1:
                    batch[0].run_started.CopyFrom(RunStarted(epochs=1))
                acked = stub.PublishEvents(
                    pb.PublishEventsRequest(run="runs/some-run", uid="u1", events=batch)
                ).acked_sequence
            assert acked == events
        tracker.kill()
        began = time.perf_counter()
        tracker.start()
        with connect(tracker.target) as channel:
            stub = TrackerServiceStub(channel)

            def shown() -> int:
                (sink,) = stub.GetTrackedRun(pb.GetTrackedRunRequest(run="runs/some-run")).sinks
                return sink.delivered_sequence

            eventually(lambda: shown() == events)
            seconds = time.perf_counter() - began
            page = stub.ListEvents(
                pb.ListEventsRequest(run="runs/some-run", page_size=1000, page_token=str(events - 1000))
            )
            assert list(page.events) == batch
    finally:
        tracker.stop()
    return seconds


def test_a_hundred_thousand_events_are_back(tmp_path: Path) -> None:
    assert recovered(tmp_path, 100_000) <= SECONDS


@pytest.mark.nightly
def test_a_million_events_are_back(tmp_path: Path) -> None:
    assert recovered(tmp_path, 1_000_000) <= SECONDS
