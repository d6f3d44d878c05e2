"""What happened in a run, as a fold over its events: metrics by epoch, decisions, what was kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunevane.api.type.v1 import event_pb2, metric_pb2

_VERDICTS = {
    event_pb2.VERDICT_IMPROVED: "improved",
    event_pb2.VERDICT_NOT_IMPROVED: "not_improved",
    event_pb2.VERDICT_STOP: "stop",
}


@dataclass(frozen=True)
class DecisionRecord:
    """What a callback concluded at an epoch end."""

    epoch: int
    """The epoch, from 1."""

    callback: str
    """Key of the callback."""

    verdict: str
    """`improved`, `not_improved`, `stop`, or `unmeasured`."""

    monitor: str
    """Full name of the metric that was looked at."""

    value: float | None
    """Its value; None when nothing measured it."""

    reason: str
    """The sentence a person reads; empty when there was nothing to say."""

    interval: tuple[float, float] | None = None
    """Ends of the interval that the decision rests on; None for decisions that look at values alone."""

    best_epoch: int = 0
    """The epoch whose weights were the best then; 0 for callbacks that do not select, and before there was one."""


@dataclass(frozen=True)
class EpochRecord:
    """What was measured at an epoch end."""

    epoch: int
    """The epoch, from 1."""

    metrics: dict[str, float]
    """Losses and retrieval metrics by full name."""


@dataclass
class History:
    """A run, folded."""

    before: dict[str, float] = field(default_factory=dict)
    """Metrics of the pre-trained model."""

    after: dict[str, float] = field(default_factory=dict)
    """Metrics of the artifact."""

    intervals: dict[str, metric_pb2.Interval] = field(default_factory=dict)
    """How sure the change from before to after is, by full name; only metrics that have values per query."""

    epochs: list[EpochRecord] = field(default_factory=list)
    """One for each committed epoch, in order."""

    decisions: list[DecisionRecord] = field(default_factory=list)
    """In order."""

    artifact_epoch: int = 0
    """The epoch whose weights the artifact holds; 0 before the end."""

    restarts: int = 0
    """Times that a worker took the run up again."""


def fold(events: Iterable[event_pb2.Event]) -> History:
    """Folds events, in sequence order, into a history."""
    history = History()
    metrics: dict[int, dict[str, float]] = {}
    starts = 0
    for event in events:
        kind = event.WhichOneof("kind")
        if kind == "run_started":
            starts += 1
        elif kind == "epoch_ended":
            metrics.setdefault(event.epoch, {})["train_loss"] = event.epoch_ended.train_loss
            if event.epoch_ended.HasField("val_loss"):
                metrics[event.epoch]["val_loss"] = event.epoch_ended.val_loss
        elif kind == "metrics_measured":
            _measured(history, metrics, event)
        elif kind == "decision_made":
            history.decisions.append(_decision(event))
        elif kind == "run_ended":
            history.artifact_epoch = event.run_ended.artifact_epoch
    history.epochs = [EpochRecord(number, metrics[number]) for number in sorted(metrics)]
    history.restarts = max(starts - 1, 0)
    return history


def _measured(history: History, metrics: dict[int, dict[str, float]], event: event_pb2.Event) -> None:
    measured = event.metrics_measured
    values = {name: measured.metrics.values[name] for name in sorted(measured.metrics.values)}
    if measured.stage == event_pb2.STAGE_BEFORE:
        history.before = values
    elif measured.stage == event_pb2.STAGE_AFTER:
        history.after = values
        history.intervals = {name: measured.intervals[name] for name in sorted(measured.intervals)}
    elif measured.stage == event_pb2.STAGE_EPOCH:
        metrics.setdefault(event.epoch, {}).update(values)


def _decision(event: event_pb2.Event) -> DecisionRecord:
    made = event.decision_made
    return DecisionRecord(
        event.epoch,
        made.callback,
        _VERDICTS.get(made.verdict, "unmeasured"),
        made.monitor,
        made.value if made.HasField("value") else None,
        made.reason,
        (made.interval.low, made.interval.high) if made.HasField("interval") else None,
        made.best_epoch,
    )
