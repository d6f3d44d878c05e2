"""Shows the newest runs, and the tracker itself, to Prometheus.

Run ids are on live families only, those leave 15 minutes after a run's end, and a budget of series decides how
many runs are shown; how many are not is a series of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.sinks.context import SinkContext
from tunevane_tracker.sinks.families import FAMILIES, Sample, samples
from tunevane_tracker.state import RunState

SHOWN_AFTER_END_SECONDS = 15 * 60.0
"""Long enough for every scraper to have seen the last values."""

MAX_FINISHED = 50
"""Ended runs that are shown, the newest."""

MAX_SERIES = 4500
"""Series of runs; the newest runs that fit are shown."""

MAX_RUNS = 400
"""Runs that are looked at; each needs more than ten series."""


def sink(context: SinkContext) -> PrometheusSink:
    """Makes the sink for a tracker."""
    return PrometheusSink(context.book)


class PrometheusSink:
    """Folds events in as they come, so that a scrape finds the values ready."""

    name = "prometheus"
    workers = 1
    marker = ""

    def __init__(self, book: Book) -> None:
        """Keeps its values in the book."""
        self._book = book

    def wants(self, run: TrackedRun) -> bool:
        """Every run is shown, within the limits."""
        return True

    def position(self, run: TrackedRun, delivered: int) -> int:
        """After a restart the memory is empty, whatever the record says."""
        return self._book.sequence(run)

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
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
        runs, left_out = self._runs()
        yield GaugeMetricFamily("tunevane_tracker_runs_shown", "Runs that are shown.", len(runs))
        yield GaugeMetricFamily(
            "tunevane_tracker_runs_left_out", "Live runs that are not shown, because there are too many.", left_out
        )
        (lost,) = self._journal.query("SELECT coalesce(sum(last - first + 1), 0) FROM holes")[0]
        yield GaugeMetricFamily(
            "tunevane_tracker_lost_events", "Events that a damaged disk has taken and nobody has sent again.", lost
        )
        made = {
            family.name: Metric(family.name.removesuffix("_total"), family.text, family.kind) for family in FAMILIES
        }
        labels = {family.name: family.labels for family in FAMILIES}
        for found in runs:
            for name, values, value in found:
                made[name].add_sample(name, dict(zip(labels[name], values, strict=True)), value)
        yield from made.values()

    def _runs(self) -> tuple[list[list[Sample]], int]:
        oldest = self._clock() - SHOWN_AFTER_END_SECONDS
        runs: list[list[Sample]] = []
        finished = series = 0
        for run in self._journal.live(oldest, MAX_RUNS):
            finished += run.ended is not None
            if finished > MAX_FINISHED:
                break
            look = functools.partial(_samples, run)
            found = self._book.read(run, look, fresh=False)
            series += len(found)
            if series > MAX_SERIES:
                break
            runs.append(found)
        return runs, self._journal.count_live(oldest) - len(runs)


def _samples(run: TrackedRun, state: RunState) -> list[Sample]:
    return list(samples(run.uid, run.name, run.config, state))


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
