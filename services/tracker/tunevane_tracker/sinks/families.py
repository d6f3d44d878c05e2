"""The Prometheus families of a run: pure, so that a scrape and an exported file say the same.

Labels are bounded: nothing that a user chose becomes the name of a family, names and tags are on `_info` only,
and the values of labels are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tunevane_tracker.state import RunState

STATES = ("pending", "running", "succeeded", "failed", "cancelled")

MAX_SCORES = 25
"""Metrics shown of one run and phase, the first by name."""

MAX_CALLBACKS = 8
"""Callbacks whose newest decisions are shown of one run."""

MAX_LABEL = 200
"""Characters of a label."""

_CUTOFF = re.compile(r"^(?P<metric>.+?)(?:@|_at_)(?P<k>\d+)$")


@dataclass(frozen=True)
class Family:
    """What Prometheus has to know of a family besides its samples."""

    name: str
    """Name of its samples; a counter's ends in `_total`."""

    kind: Literal["gauge", "counter"]
    """Counters only rise, but for a run that was resumed."""

    text: str
    """One sentence for people."""

    labels: tuple[str, ...] = ("run_id",)
    """Names of the labels; the first is always the run's unique id."""


FAMILIES: tuple[Family, ...] = (
    Family("tunevane_run_info", "gauge", "What a run is.", ("run_id", "name", "model", "loss_fn", "dataset")),
    Family("tunevane_run_state", "gauge", "1 for the state that a run is in.", ("run_id", "state")),
    Family("tunevane_run_start_time_seconds", "gauge", "When the run first started, Unix seconds."),
    Family("tunevane_run_last_event_time_seconds", "gauge", "When the newest event happened, Unix seconds."),
    Family("tunevane_run_restarts_total", "counter", "Times that the run was resumed."),
    Family("tunevane_run_train_steps_total", "counter", "Optimizer steps taken."),
    Family("tunevane_run_epoch", "gauge", "Epoch under way, from 1."),
    Family("tunevane_run_epochs_planned", "gauge", "Epochs planned; the run may stop earlier."),
    Family("tunevane_run_items_per_second", "gauge", "Newest speed of training."),
    Family("tunevane_run_train_loss", "gauge", "Newest training loss."),
    Family("tunevane_run_val_loss", "gauge", "Newest validation loss."),
    Family("tunevane_run_learning_rate", "gauge", "Newest learning rate."),
    Family(
        "tunevane_run_retrieval_score",
        "gauge",
        "Retrieval metrics by phase of fine-tuning.",
        ("run_id", "metric", "k", "phase"),
    ),
    Family(
        "tunevane_run_retrieval_change",
        "gauge",
        "Ends of the interval in which a metric's change since before fine-tuning lies.",
        ("run_id", "metric", "k", "phase", "bound"),
    ),
    Family("tunevane_run_best_epoch", "gauge", "Epoch whose weights are the best so far; 0 before any."),
    Family("tunevane_run_early_stop_patience_left", "gauge", "Epochs that may pass without improvement."),
    Family(
        "tunevane_run_last_decision_time_seconds",
        "gauge",
        "When a callback last came to a verdict, Unix seconds.",
        ("run_id", "callback", "verdict"),
    ),
    Family("tunevane_run_checkpoints_total", "counter", "Weights stored.", ("run_id", "reason")),
)


def split_metric(name: str) -> tuple[str, str]:
    """Splits `minilm_ndcg@10` into (`minilm_ndcg`, `10`); a metric without a number has an empty k."""
    match = _CUTOFF.match(name)
    return (match["metric"][:MAX_LABEL], match["k"][:MAX_LABEL]) if match else (name[:MAX_LABEL], "")


Sample = tuple[str, tuple[str, ...], float]
"""Name, values of the family's labels, value."""


def samples(uid: str, name: str, config: Mapping[str, object], state: RunState) -> Iterator[Sample]:
    """Yields the samples of a run; what nobody measured has none, and no two have the same labels.

    Args:
        uid: Unique id of the run.
        name: Its name, for people.
        config: What was asked for.
        state: What has come of it.

    """
    told = tuple(str(config.get(key, ""))[:MAX_LABEL] for key in ("model", "loss", "dataset"))
    yield "tunevane_run_info", (uid, name[:MAX_LABEL], *told), 1.0
    for each in STATES:
        yield "tunevane_run_state", (uid, each), float(each == state.status)
    yield from plain_samples(uid, state)
    yield from _scores(uid, state)
    latest = {(each.callback[:MAX_LABEL], each.verdict): each.seconds for each in state.decisions}
    callbacks = list(dict.fromkeys(callback for callback, _ in latest))[:MAX_CALLBACKS]
    for (callback, verdict), seconds in latest.items():
        if callback in callbacks:
            yield "tunevane_run_last_decision_time_seconds", (uid, callback, verdict), seconds
    for reason, count in state.checkpoints.items():
        yield "tunevane_run_checkpoints_total", (uid, reason), count


def plain_samples(uid: str, state: RunState) -> Iterator[Sample]:
    """Yields the samples of a run that have no label but its unique id: all that a reported step changes."""
    values: Mapping[str, float | None] = {
        "start_time_seconds": state.started_seconds or None,
        # None while a tracker that was just started has not read the run's events yet.
        "last_event_time_seconds": state.last_event_seconds or None,
        "restarts_total": state.restarts,
        "train_steps_total": state.step,
        "epoch": state.epoch,
        "epochs_planned": state.epochs_planned or None,
        "items_per_second": state.items_per_second or None,
        "train_loss": state.train_loss,
        "val_loss": state.val_loss,
        "learning_rate": state.learning_rate,
        "best_epoch": state.best_epoch,
        "early_stop_patience_left": state.patience_left,
    }
    for key, value in values.items():
        if value is not None:
            yield f"tunevane_run_{key}", (uid,), value


def _scores(uid: str, state: RunState) -> Iterator[Sample]:
    current = state.intervals_by_epoch[max(state.intervals_by_epoch)] if state.intervals_by_epoch else {}
    best = state.intervals_by_epoch.get(state.best_epoch, {})
    intervals = {"current": current, "best": best, "after": state.intervals_after}
    for phase, values in state.phases().items():
        seen = set()
        for name, value in sorted(values.items())[:MAX_SCORES]:
            metric = split_metric(name)
            if metric in seen:  # `dcg@5` and `dcg_at_5` of the same run, or what was cut
                continue
            seen.add(metric)
            yield "tunevane_run_retrieval_score", (uid, *metric, phase), value
            interval = intervals.get(phase, {}).get(name)
            if interval is not None:
                yield "tunevane_run_retrieval_change", (uid, *metric, phase, "low"), interval.low
                yield "tunevane_run_retrieval_change", (uid, *metric, phase, "high"), interval.high
