"""Decisions as events of a run's history."""

from __future__ import annotations

from tunevane.api.type.v1 import event_pb2, metric_pb2
from tunevane.callback.base import Decision

_VERDICTS = {
    "improved": event_pb2.VERDICT_IMPROVED,
    "not_improved": event_pb2.VERDICT_NOT_IMPROVED,
    "stop": event_pb2.VERDICT_STOP,
    "unmeasured": event_pb2.VERDICT_UNSPECIFIED,
}


def decision_event(decision: Decision) -> event_pb2.Event:
    """States a decision."""
    made = event_pb2.DecisionMade(
        callback=decision.callback,
        verdict=_VERDICTS[decision.verdict],
        reason=decision.reason,
        monitor=decision.monitor,
        value=decision.value,
        patience_left=decision.patience_left,
        estimate=decision.estimate,
        best_epoch=decision.best_epoch,
        slot=decision.slot,
    )
    if decision.evidence is not None:
        found = decision.evidence
        made.difference = found.difference
        made.interval.CopyFrom(metric_pb2.Interval(low=found.low, high=found.high, confidence=found.confidence))
    return event_pb2.Event(decision_made=made)
