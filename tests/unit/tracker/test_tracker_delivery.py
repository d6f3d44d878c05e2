"""A sink gets every event in order, however often it fails, except one that kills it three times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.sinks.port import SinkDiedError, SinkUnavailableError

RUN = whole_run()


class Recorder:
    """A sink that does what `act` says before it takes events."""

    name = "recorder"
    workers = 1
    marker = ""

    def __init__(self, act: Callable[[list[int]], None]) -> None:
        self._act = act
        self.taken: list[int] = []
        self.aside: list[int] = []
        self.complete = threading.Event()

    def wants(self, run: TrackedRun) -> bool:
        return True

    def position(self, run: TrackedRun, delivered: int) -> int:
        return delivered

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        sequences = [event.sequence for event in events]
        self._act(sequences)
        self.taken += sequences
        if self.taken[-1] == len(RUN):
            self.complete.set()

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        self.aside.append(sequence)

    def close(self) -> None:
        pass


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "tracker.sqlite", clock=lambda: 1000.0)
    yield made
    made.close()


def deliver_all(journal: Journal, sink: Recorder) -> Delivery:
    delivery = Delivery(sink, journal, Cursors(journal), first_wait_seconds=0.001, gather_seconds=0.001)
    delivery.offer(journal.append("some-run", "u1", RUN).result().run)
    assert sink.complete.wait(20)
    delivery.close()
    return delivery


def test_a_sink_that_is_away_gets_everything_later(journal: Journal) -> None:
    refusals = iter(range(4))

    def act(sequences: list[int]) -> None:
        if next(refusals, None) is not None:
            raise SinkUnavailableError("closed for lunch")

    sink = Recorder(act)
    delivery = deliver_all(journal, sink)
    assert sink.taken == list(range(1, len(RUN) + 1))
    assert delivery.restarts == 0
    cursor = Cursors(journal).get("recorder", journal.run("u1"))
    assert (cursor.delivered, cursor.problem) == (len(RUN), "")


def test_an_event_that_kills_three_times_is_put_aside(journal: Journal) -> None:
    def act(sequences: list[int]) -> None:
        if 7 in sequences:
            raise SinkDiedError(7, "died of event 7")

    sink = Recorder(act)
    delivery = deliver_all(journal, sink)
    assert sink.taken == [number for number in range(1, len(RUN) + 1) if number != 7]
    assert (sink.aside, delivery.restarts) == ([7], 3)
    assert Cursors(journal).put_aside_counts() == {"recorder": 1}


def test_a_new_delivery_goes_on_behind_the_cursor(journal: Journal) -> None:
    run = journal.append("some-run", "u1", RUN[:5]).result().run
    Cursors(journal).move("recorder", run, 5).result()
    sink = Recorder(lambda sequences: None)
    deliver_all(journal, sink)
    assert sink.taken == list(range(6, len(RUN) + 1))
