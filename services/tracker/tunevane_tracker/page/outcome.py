"""What a run brought, in one look: the metric that decides, before and now, and whether that is an improvement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunevane.api.type.v1.metric_pb2 import Interval
from tunevane.core import explanation
from tunevane.core.numbers import interval
from tunevane_tracker.state import RunState


@dataclass(frozen=True)
class Outcome:
    """How the metric that decides stands."""

    metric: str
    """Its full name."""

    before: float | None
    """Its value before fine-tuning; None where it was not measured."""

    now: float
    """Its value of the artifact, of the best epoch so far, or of the newest."""

    interval: Interval | None
    """Interval of the change; None where it is not known."""

    @property
    def look(self) -> str:
        """`good`, `bad`, or `soft` when it cannot be told or did not change."""
        if self.before is None:
            return "soft"
        low = high = self.now - self.before
        if self.interval is not None:
            low, high = interval(self.interval.low, self.interval.high)
        return "good" if low > 0 else "bad" if high < 0 else "soft"

    @property
    def headline(self) -> str:
        """Says in a few words whether retrieval improved."""
        if self.before is None:
            return "Retrieval was measured"
        if self.look == "soft":
            return "Retrieval did not change" if self.now == self.before else "No change that stands out from noise"
        return "Retrieval improved" if self.look == "good" else "Retrieval got worse"


def kept_epoch(state: RunState) -> int:
    """Returns the epoch whose weights the artifact holds, or would hold if a callback chooses; 0 before any."""
    return state.artifact_epoch or explanation.best_epoch(state.decisions)


@dataclass(frozen=True)
class Newest:
    """The metrics that count now."""

    values: Mapping[str, float]
    """Values by full name; empty before the first epoch's end."""

    intervals: Mapping[str, Interval]
    """Intervals of their changes since before fine-tuning, where known."""

    epoch: int
    """The epoch they describe; 0 for the artifact."""


def newest(state: RunState) -> Newest:
    """Returns the metrics of the artifact, else of the best epoch so far, else of the last."""
    if state.after:
        return Newest(state.after, state.intervals_after, 0)
    epoch = kept_epoch(state)
    if epoch not in state.by_epoch:
        epoch = max(state.by_epoch, default=0)
    return Newest(state.by_epoch.get(epoch, {}), state.intervals_by_epoch.get(epoch, {}), epoch)


def outcome(state: RunState) -> Outcome | None:
    """Returns how the deciding metric stands; None before anything but the pre-trained model was measured."""
    metric = deciding_metric(state)
    now = newest(state)
    if metric not in now.values:
        return None
    return Outcome(metric, state.before.get(metric), now.values[metric], now.intervals.get(metric))


def deciding_metric(state: RunState) -> str:
    """Names the retrieval metric that chooses the epoch, else one that a callback looks at, else one measured."""
    measured = {**state.before, **newest(state).values}
    looked_at = [each for each in reversed(state.decisions) if each.monitor in measured]
    chooses = [each for each in looked_at if explanation.is_keeper(each)]
    for decision in chooses or looked_at:
        return decision.monitor
    return next((name for name in sorted(measured) if "reciprocal_rank" in name), min(measured, default=""))


def metric_names(state: RunState) -> list[str]:
    """Lists the retrieval metrics of a run, the one that decides first."""
    names = sorted({name for values in (state.before, state.after, *state.by_epoch.values()) for name in values})
    deciding = deciding_metric(state)
    return sorted(names, key=lambda name: name != deciding)


def curve(state: RunState, metric: str) -> list[tuple[float, float]]:
    """Returns a metric by epoch; epoch 0 is the pre-trained model."""
    points = [(float(epoch), values[metric]) for epoch, values in sorted(state.by_epoch.items()) if metric in values]
    return [(0.0, state.before[metric]), *points] if metric in state.before else points


def within_epochs(state: RunState, metric: str) -> list[tuple[float, float]]:
    """Returns a metric within epochs, by epochs trained so far, a fraction."""
    batches = max(state.batches_per_epoch, 1)
    return [(step / batches, values[metric]) for _, step, values in state.within if metric in values]
