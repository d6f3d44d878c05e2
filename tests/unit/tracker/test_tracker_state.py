"""The state of a run is a fold: how its events arrived does not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tracker_events import NDCG, epoch, numbered, whole_run
from tunevane.api.type.v1.event_pb2 import Event, RunEnded, RunStarted, StepReported
from tunevane_tracker.curve import LIMIT
from tunevane_tracker.fold import LAST_SECOND, apply, fold
from tunevane_tracker.state import RunState

RUN = whole_run(epochs=3)


@given(st.lists(st.tuples(st.integers(0, len(RUN)), st.integers(1, 9)), max_size=30))
def test_batches_and_repetition_do_not_matter(chunks: list[tuple[int, int]]) -> None:
    state = RunState()
    for back, size in chunks:
        begin = max(0, state.sequence - back)
        fold(RUN[begin : begin + size], state)
    fold(RUN, state)
    assert state == fold(RUN)


def test_a_gap_is_refused() -> None:
    state = fold(RUN[:2])
    with pytest.raises(ValueError, match="event 4 cannot follow event 2"):
        fold([RUN[3]], state)
    assert state == fold(RUN[:2])


def test_events_that_are_lost_are_counted_and_the_rest_is_folded() -> None:
    state = fold([*RUN[:2], *RUN[5:]], over_holes=True)
    assert (state.missing, state.sequence, state.status) == (3, len(RUN), "succeeded")


@pytest.mark.parametrize("seconds", [-(1 << 62), 1 << 62, 253_402_300_800])
def test_a_clock_beyond_the_calendar_is_brought_back(seconds: int) -> None:
    event = Event(sequence=1, run_started=RunStarted(epochs=1))
    event.event_time.seconds = seconds
    assert 0.0 <= fold([event]).last_event_seconds <= LAST_SECOND


def test_what_a_finished_run_shows() -> None:
    state = fold(RUN)
    assert (state.status, state.epoch, state.step, state.best_epoch) == ("succeeded", 3, 9, 3)
    assert state.phases() == {
        "before": {NDCG: 0.5},
        "current": {NDCG: 0.53},
        "best": {NDCG: 0.53},
        "after": {NDCG: 0.53},
    }
    assert state.val_loss == 2.0 / 3
    assert state.checkpoints == {"model": 3}
    assert state.warnings == ["half of the texts are the same"]


def test_zero_patience_and_zero_loss_are_values() -> None:
    report = Event(epoch=1, step=1, step_reported=StepReported(batch=1, loss=0.0, learning_rate=0.0))
    state = fold(numbered([Event(run_started=RunStarted(epochs=1)), report]))
    assert (state.train_loss, state.learning_rate, state.patience_left) == (0.0, 0.0, None)
    assert fold(RUN).patience_left == 0


def test_a_resumed_run_forgets_the_epoch_that_is_trained_again() -> None:
    start = [Event(run_started=RunStarted(epochs=3))]
    again = [Event(step=3, run_started=RunStarted(epochs=3, resumed_after_epoch=1))]
    interrupted = fold(numbered([*start, *epoch(1), *epoch(2), *again, *epoch(2)]))
    plain = fold(numbered([*start, *epoch(1), *epoch(2)]))
    assert interrupted.restarts == 1
    assert interrupted.losses.all() == plain.losses.all()
    assert interrupted.by_epoch == plain.by_epoch
    assert [replace(each, seconds=0.0) for each in interrupted.decisions] == [
        replace(each, seconds=0.0) for each in plain.decisions
    ]


def test_a_failed_and_a_cancelled_run_say_so() -> None:
    start = Event(run_started=RunStarted(epochs=1))
    failed = fold(numbered([start, Event(run_ended=RunEnded(failure_reason="out of memory"))]))
    cancelled = fold(numbered([start, Event(run_ended=RunEnded(cancelled=True))]))
    assert (failed.status, failed.failure_reason) == ("failed", "out of memory")
    assert cancelled.status == "cancelled"


def test_an_event_of_an_unknown_kind_is_counted_and_skipped() -> None:
    state = fold(numbered([Event(run_started=RunStarted(epochs=1)), Event(epoch=1)]))
    assert (state.sequence, state.status) == (2, "running")


def test_a_long_run_keeps_few_points_and_its_newest() -> None:
    total = 3 * LIMIT + 1
    steps = [
        Event(epoch=1, step=step, step_reported=StepReported(batch=step, loss=math.nan if step == 2 else step))
        for step in range(1, total + 1)
    ]
    points = fold(numbered(steps)).losses.all()
    assert len(points) <= LIMIT + 1
    assert points[-1].value == total
    assert [point.step for point in points] == sorted({point.step for point in points})


def test_the_points_that_a_curve_keeps_do_not_depend_on_how_events_came() -> None:
    total = 3 * LIMIT + 1
    steps = [
        Event(epoch=1, step=step, step_reported=StepReported(batch=step, loss=1.0 / step))
        for step in range(1, total + 1)
    ]
    events = numbered([*steps[:5000], Event(epoch=1), *steps[5000:]])
    alone = RunState()
    for event in events:
        apply(alone, event)
    assert fold(events[3000:], fold(events[:3000])) == alone == fold(events)
    assert alone.losses.last == (total, 1, 1.0 / total)
