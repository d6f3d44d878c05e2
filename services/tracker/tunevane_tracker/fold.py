"""Folds the events of a run into what is shown of it. Pure: the same events give the same state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tunevane.api.type.v1.event_pb2 import (
    SEVERITY_ERROR,
    SEVERITY_WARNING,
    STAGE_AFTER,
    STAGE_BEFORE,
    STAGE_INTERVAL,
    Event,
)
from tunevane_tracker.curve import Point
from tunevane_tracker.state import MAX_LINES, VERDICTS, Decision, Epoch, Line, RunState

LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999, Unix seconds."""


def fold(events: Iterable[Event], state: RunState | None = None, *, over_holes: bool = False) -> RunState:
    """Folds events into a new state, or further ones into `state`, which is changed and returned.

    Args:
        events: In order.
        state: What came of those before them.
        over_holes: Whether to count missing events and go on; they are lost, not late.

    Raises:
        ValueError: Events are missing.

    """
    state = RunState() if state is None else state
    newest = reported = None
    for event in events:
        sequence = event.sequence
        if sequence <= state.sequence:
            continue
        if sequence != state.sequence + 1:
            if not over_holes:
                raise ValueError(f"event {sequence} cannot follow event {state.sequence}")
            state.missing += sequence - state.sequence - 1
        state.sequence = sequence
        newest = event
        kind = event.WhichOneof("kind")
        if kind == "step_reported":
            # Nearly all events of a run are reports of steps, and of several only the last is seen.
            reported = event
            if not state.losses.passes_over():
                state.losses.add(_loss(event))
            continue
        if reported is not None:
            _step_reported(state, reported)
            reported = None
        # A kind that a newer trainer knows is counted and otherwise ignored.
        if kind is not None:
            _APPLY[kind](state, event, getattr(event, kind))
    if reported is not None:
        _step_reported(state, reported)
    if newest is not None:
        state.last_event_seconds = _seconds(newest)
    return state


def apply(state: RunState, event: Event, *, over_holes: bool = False) -> None:
    """Folds the next event in; one that was folded in before changes nothing.

    Raises:
        ValueError: Events before it are missing.

    """
    fold((event,), state, over_holes=over_holes)


def _seconds(event: Event) -> float:
    """Returns when an event happened; a clock that is wrong beyond the calendar gives the calendar's end."""
    return min(max(event.event_time.seconds + event.event_time.nanos / 1e9, 0.0), LAST_SECOND)


# The third argument is the message of the event's kind, a different class for each, hence `Any` below.


def _run_started(state: RunState, event: Event, kind: Any) -> None:
    resumed = kind.resumed_after_epoch
    if state.started_seconds == 0.0:
        state.started_seconds = _seconds(event)
    else:
        state.restarts += 1
    state.status, state.failure_reason, state.activity = "running", "", ""
    state.epochs_planned, state.batches_per_epoch = kind.epochs, kind.batches_per_epoch
    # What an interrupted epoch reported is reported again.
    state.losses.drop_after(resumed)
    state.epochs = {number: epoch for number, epoch in state.epochs.items() if number <= resumed}
    state.by_epoch = {number: values for number, values in state.by_epoch.items() if number <= resumed}
    state.within = [each for each in state.within if each[0] <= resumed]
    state.intervals_by_epoch = {number: each for number, each in state.intervals_by_epoch.items() if number <= resumed}
    state.decisions = [each for each in state.decisions if each.epoch <= resumed]
    state.epoch, state.batch, state.step = resumed, 0, event.step
    state.after, state.artifact_epoch = {}, 0


def _loss(event: Event) -> Point:
    return Point(event.step, event.epoch, event.step_reported.loss)


def _step_reported(state: RunState, event: Event) -> None:
    """Takes over the newest report; which points the curve keeps has been seen to."""
    kind = event.step_reported
    state.epoch, state.batch, state.step = event.epoch, kind.batch, event.step
    state.train_loss, state.learning_rate = kind.loss, kind.learning_rate
    state.items_per_second = kind.items_per_second
    state.losses.last = _loss(event)


def _evaluation_reported(state: RunState, event: Event, kind: Any) -> None:
    state.activity = f"{kind.evaluation}: {kind.activity} {kind.done} of {kind.total}"


def _epoch_ended(state: RunState, event: Event, kind: Any) -> None:
    state.epoch, state.batch, state.step, state.train_loss = event.epoch, kind.batches, event.step, kind.train_loss
    val_loss = kind.val_loss if kind.HasField("val_loss") else None
    state.epochs[event.epoch] = Epoch(event.epoch, event.step, kind.train_loss, val_loss, kind.seconds)


def _checkpoint_saved(state: RunState, event: Event, kind: Any) -> None:
    reason = "resume" if kind.HasField("training_state") else "model"
    state.checkpoints[reason] = state.checkpoints.get(reason, 0) + 1


def _metrics_measured(state: RunState, event: Event, kind: Any) -> None:
    values, intervals = dict(kind.metrics.values), dict(kind.intervals)
    if kind.stage == STAGE_BEFORE:
        state.before.update(values)
    elif kind.stage == STAGE_AFTER:
        state.after.update(values)
        state.intervals_after.update(intervals)
    elif kind.stage == STAGE_INTERVAL:
        state.within.append((event.epoch, event.step, values))
        if len(state.within) > MAX_LINES:
            state.within = state.within[::2]
    else:
        state.by_epoch.setdefault(event.epoch, {}).update(values)
        state.intervals_by_epoch.setdefault(event.epoch, {}).update(intervals)
    if kind.shown_examples and kind.stage in (STAGE_BEFORE, STAGE_AFTER):
        state.examples["before" if kind.stage == STAGE_BEFORE else "after"] = kind.shown_examples
    state.activity = ""
    for warning in kind.warnings:
        _warn(state, warning)


def _decision_made(state: RunState, event: Event, kind: Any) -> None:
    value = kind.value if kind.HasField("value") else None
    verdict = VERDICTS.get(kind.verdict, "")
    state.decisions.append(
        Decision(
            event.epoch, kind.callback, verdict, kind.reason, kind.monitor, value, _seconds(event), kind.best_epoch
        )
    )
    if kind.HasField("patience_left"):
        state.patience_left = kind.patience_left


def _log_written(state: RunState, event: Event, kind: Any) -> None:
    state.lines.append(Line(_seconds(event), kind.severity, kind.text))
    if kind.severity in {SEVERITY_WARNING, SEVERITY_ERROR}:
        _warn(state, kind.text)


def _run_ended(state: RunState, event: Event, kind: Any) -> None:
    state.status = "cancelled" if kind.cancelled else "failed" if kind.failure_reason else "succeeded"
    state.failure_reason = kind.failure_reason
    state.artifact_epoch = kind.artifact_epoch
    state.activity = ""


def _warn(state: RunState, text: str) -> None:
    if text not in state.warnings and len(state.warnings) < MAX_LINES:
        state.warnings.append(text)


_APPLY: Mapping[str, Callable[[RunState, Event, Any], None]] = {
    "run_started": _run_started,
    "evaluation_reported": _evaluation_reported,
    "epoch_ended": _epoch_ended,
    "checkpoint_saved": _checkpoint_saved,
    "metrics_measured": _metrics_measured,
    "decision_made": _decision_made,
    "log_written": _log_written,
    "run_ended": _run_ended,
}
