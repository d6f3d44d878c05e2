"""The moments of training as told by events: the specified order, each once, however events were repeated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback import Callback, EarlyStopping
from tunevane.callback.base import Decision, Measurements, State
from tunevane.errors import InvalidRequestError
from tunevane.local.listening import is_listener
from tunevane.local.notices import Notices

CASE = json.loads((Path(__file__).parents[1] / "core" / "cases.json").read_text())["event_order"]
BATCHES = CASE["train_batches"]


def step(epoch: int, batch: int) -> event_pb2.Event:
    return event_pb2.Event(epoch=epoch, step_reported=event_pb2.StepReported(batch=batch))


def end_of_epoch(epoch: int) -> list[event_pb2.Event]:
    ended = event_pb2.EpochEnded(batches=BATCHES, val_batches=CASE["val_batches"], val_loss=1.0)
    saved = event_pb2.CheckpointSaved()
    return [event_pb2.Event(epoch=epoch, epoch_ended=ended), event_pb2.Event(epoch=epoch, checkpoint_saved=saved)]


def started() -> event_pb2.Event:
    return event_pb2.Event(run_started=event_pb2.RunStarted(batches_per_epoch=BATCHES))


SUCCESS = event_pb2.Event(run_ended=event_pb2.RunEnded(artifact=blob_pb2.Bundle()))


def told(events: Sequence[event_pb2.Event]) -> list[str]:
    notices = Notices()
    return [notice for event in events for notice in notices.of(event)]


@given(st.data())
def test_the_order_is_the_specified_one_whatever_is_reported_and_repeated(data: st.DataObject) -> None:
    events = [started()]
    for epoch in range(1, CASE["epochs"] + 1):
        for _ in range(data.draw(st.integers(1, 3), label="times that the epoch is begun")):
            reports = data.draw(st.lists(st.integers(1, BATCHES), unique=True).map(sorted), label="reports")
            events += [*(step(epoch, batch) for batch in reports), started()]
        events += end_of_epoch(epoch)
    assert told([*events, SUCCESS]) == CASE["calls"]


def test_reports_that_overtake_the_end_of_an_epoch_are_told_after_it() -> None:
    ends = [end_of_epoch(epoch) for epoch in (1, 2)]
    within = event_pb2.Event(epoch=2, checkpoint_saved=event_pb2.CheckpointSaved(batch=1))
    events = [started(), step(1, 1), step(2, 1), step(2, 2), *ends[0], within, started(), *ends[1]]
    assert told([*events, SUCCESS]) == CASE["calls"]


@pytest.mark.parametrize(
    "ended",
    [event_pb2.RunEnded(failure_reason="no"), event_pb2.RunEnded(cancelled=True)],
)
def test_a_run_that_fails_or_is_cancelled_ends_with_on_exception(ended: event_pb2.RunEnded) -> None:
    heard = told([started(), step(1, 1), event_pb2.Event(run_ended=ended), SUCCESS])
    assert heard[-1] == "on_exception"
    assert heard.count("on_exception") == 1


@dataclass(frozen=True)
class Listens(Callback):
    """Only listens."""

    name: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Concludes(Listens):
    """Decides, in the wrong place."""

    monitor: str = "loss"

    def initial(self) -> State:
        return {}

    def decide(self, state: State, epoch: int, measured: Measurements, metric: str) -> tuple[State, Decision]:
        raise AssertionError("never asked")


def test_an_object_may_listen_and_no_more() -> None:
    assert is_listener(Listens(), "callbacks[0]")
    assert not is_listener(EarlyStopping(), "callbacks[0]")
    with pytest.raises(InvalidRequestError, match="Concludes measures, decides or refines.*entry point") as caught:
        is_listener(Concludes(), "callbacks[3]")
    assert [problem.field for problem in caught.value.problems] == ["callbacks[3]"]
