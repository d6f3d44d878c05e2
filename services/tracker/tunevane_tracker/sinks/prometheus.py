"""Shows the newest runs, and the tracker itself, to Prometheus.

Labels are bounded: run ids are on live families only, those leave 15 minutes after a run's end, and a budget
of series decides how many runs are shown; how many are not is a series of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.state import RunState

SHOWN_AFTER_END_SECONDS = 15 * 60.0
"""Long enough for every scraper to have seen the last values."""

MAX_FINISHED = 50
"""Ended runs that are shown, the newest."""

MAX_SERIES = 4500
"""Series of runs; the newest runs that fit are shown."""

MAX_RUNS = 400
"""Runs that are looked at; each needs more than ten series."""

MAX_SCORES = 25
"""Metrics shown of one run."""

STATES = ("pending", "running", "succeeded", "failed", "cancelled")

_CUTOFF = re.compile(r"^(?P<metric>.+?)(?:@|_at_)(?P<k>\d+)$")


def split_metric(name: str) -> tuple[str, str]:
    """Splits `minilm_ndcg@10` into (`minilm_ndcg`, `10`); a metric without a number has an empty k."""
    match = _CUTOFF.match(name)
    return (match["metric"], match["k"]) if match else (name, "")


@dataclass(frozen=True)
class _Row:
    """The values of one run, taken out of its state."""

    run: TrackedRun
    status: str
    step: int
    epoch: int
    best_epoch: int
    last_event_seconds: float
    train_loss: float | None
    val_loss: float | None
    learning_rate: float | None
    patience_left: int | None
    checkpoints: dict[str, int]
    phases: dict[str, dict[str, float]]

    def series(self) -> int:
        """Counts the series that the row needs, at most."""
        return 12 + len(STATES) + len(self.checkpoints) + sum(len(values) for values in self.phases.values())


def _row(run: TrackedRun, state: RunState) -> _Row:
    phases = {phase: dict(sorted(values.items())[:MAX_SCORES]) for phase, values in state.phases().items()}
    return _Row(
        run,
        state.status,
        state.step,
        state.epoch,
        state.best_epoch,
        state.last_event_seconds,
        state.train_loss,
        state.val_loss,
        state.learning_rate,
        state.patience_left,
        dict(state.checkpoints),
        phases,
    )


class PrometheusSink:
    """Folds events in as they come, so that a scrape finds the values ready."""

    name = "prometheus"
    workers = 1

    def __init__(self, book: Book) -> None:
        """Keeps its values in the book."""
        self._book = book

    def wants(self, run: TrackedRun) -> bool:
        """Every run is shown, within the limits."""
        return True

    def position(self, run: TrackedRun, delivered: int) -> int:
        """After a restart the memory is empty, whatever the record says."""
        return self._book.sequence(run)

    def deliver(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Folds events in."""
        self._book.add(run, events)

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        """Cannot happen: there is no process that dies."""

    def close(self) -> None:
        """Nothing to end."""


class RunCollector:
    """The families of runs, made at each scrape."""

    def __init__(self, journal: Journal, book: Book, clock: Callable[[], float]) -> None:
        """Reads which runs there are from the journal, and their values from the book."""
        self._journal = journal
        self._book = book
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        rows, left_out = self._rows()
        yield GaugeMetricFamily(
            "tunevane_tracker_runs_left_out", "Live runs that are not shown, because there are too many.", left_out
        )
        info = GaugeMetricFamily(
            "tunevane_run_info", "What a run is.", labels=["run_id", "name", "model", "loss_fn", "dataset"]
        )
        state = GaugeMetricFamily("tunevane_run_state", "1 for the state that a run is in.", labels=["run_id", "state"])
        score = GaugeMetricFamily(
            "tunevane_run_retrieval_score",
            "Retrieval metrics by phase of fine-tuning.",
            labels=["run_id", "metric", "k", "phase"],
        )
        steps = CounterMetricFamily("tunevane_run_train_steps", "Optimizer steps taken.", labels=["run_id"])
        checkpoints = CounterMetricFamily("tunevane_run_checkpoints", "Weights stored.", labels=["run_id", "reason"])
        gauges: dict[str, tuple[str, Callable[[_Row], float | None]]] = {
            "epoch": ("Epoch under way, from 1.", lambda row: row.epoch),
            "train_loss": ("Newest training loss.", lambda row: row.train_loss),
            "val_loss": ("Newest validation loss.", lambda row: row.val_loss),
            "learning_rate": ("Newest learning rate.", lambda row: row.learning_rate),
            "best_epoch": ("Epoch whose weights are the best so far; 0 before any.", lambda row: row.best_epoch),
            "early_stop_patience_left": ("Epochs that may pass without improvement.", lambda row: row.patience_left),
            "last_event_time_seconds": ("When the newest event happened.", lambda row: row.last_event_seconds),
        }
        for row in rows:
            uid, config = row.run.uid, row.run.config
            labels = [str(config.get(key, ""))[:200] for key in ("model", "loss", "dataset")]
            info.add_metric([uid, row.run.name, *labels], 1.0)
            for each in STATES:
                state.add_metric([uid, each], float(each == row.status))
            steps.add_metric([uid], row.step)
            for reason, count in row.checkpoints.items():
                checkpoints.add_metric([uid, reason], count)
            for phase, values in row.phases.items():
                for name, value in values.items():
                    score.add_metric([uid, *split_metric(name), phase], value)
        yield from (info, state, steps, checkpoints, score)
        for name, (text, value_of) in gauges.items():
            family = GaugeMetricFamily(f"tunevane_run_{name}", text, labels=["run_id"])
            for row in rows:
                found = value_of(row)
                if found is not None:
                    family.add_metric([row.run.uid], found)
            yield family

    def _rows(self) -> tuple[list[_Row], int]:
        oldest = self._clock() - SHOWN_AFTER_END_SECONDS
        live = self._journal.live(oldest, MAX_RUNS)
        rows: list[_Row] = []
        finished = series = 0
        for run in live:
            finished += run.ended is not None
            if finished > MAX_FINISHED:
                break
            row = self._book.read(run, lambda state, run=run: _row(run, state), fresh=False)  # type: ignore[misc]
            series += row.series()
            if series > MAX_SERIES:
                break
            rows.append(row)
        return rows, self._journal.count_live(oldest) - len(rows)


class TrackerMetrics:
    """The tracker's own families."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers them."""
        self.events = Counter("tunevane_tracker_events", "Events stored.", registry=registry)
        self.duplicates = Counter("tunevane_tracker_duplicates", "Events that were stored already.", registry=registry)
        self.conflicts = Counter(
            "tunevane_tracker_conflicts", "Duplicates with other content; the first was kept.", registry=registry
        )
        self.append_seconds = Histogram(
            "tunevane_tracker_append_seconds",
            "Time until a batch of events is on disk.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
            registry=registry,
        )


class SinkCollector:
    """The families of sinks, made at each scrape."""

    def __init__(self, deliveries: Sequence[Delivery], cursors: Cursors, mode: Callable[[], str]) -> None:
        """Reads from the deliveries; `mode` tells how W&B is used, empty before that is known."""
        self._deliveries = deliveries
        self._cursors = cursors
        self._mode = mode

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        lag = GaugeMetricFamily("tunevane_tracker_sink_lag_events", "Events that wait for a sink.", labels=["sink"])
        restarts = CounterMetricFamily("tunevane_tracker_sink_restarts", "Deaths of a sink's process.", labels=["sink"])
        aside = GaugeMetricFamily(
            "tunevane_tracker_sink_put_aside_events", "Events that a sink cannot take.", labels=["sink"]
        )
        counts = self._cursors.put_aside_counts()
        for delivery in self._deliveries:
            name = delivery.sink.name
            lag.add_metric([name], delivery.lag())
            restarts.add_metric([name], delivery.restarts)
            aside.add_metric([name], counts.get(name, 0))
        yield from (lag, restarts, aside)
        mode = GaugeMetricFamily("tunevane_tracker_wandb_mode", "1 for how W&B is used.", labels=["mode"])
        for each in ("account", "anonymous", "offline", "off"):
            mode.add_metric([each], float(each == self._mode()))
        yield mode
