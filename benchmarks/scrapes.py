"""What a scrape of the tracker costs with 10,000 live runs that a sink lacks, and how much it tells."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness import at_most, report
from prometheus_client import CollectorRegistry, generate_latest

from tunevane.api.type.v1.event_pb2 import STAGE_BEFORE, STAGE_EPOCH, Event, MetricsMeasured, RunStarted
from tunevane.api.type.v1.metric_pb2 import MetricSet
from tunevane.rpc import metrics
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal
from tunevane_tracker.runs import TrackedRun
from tunevane_tracker.sinks.prometheus import PrometheusSink, RunCollector, SinkCollector, TrackerMetrics

RUNS = 10_000
SCRAPES = 20


class Stuck(PrometheusSink):
    """Wants everything and takes nothing, until it is closed."""

    name = "stuck"

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self._closed = threading.Event()

    def position(self, run: TrackedRun, delivered: int) -> int:
        return delivered

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        self._closed.wait()

    def close(self) -> None:
        self._closed.set()


def fill(journal: Journal, book: Book, waiting: Delivery) -> None:
    """Stores the runs, folds them in and lets them wait for a sink."""
    values = MetricSet(values={f"minilm_metric_{number}@10": 0.5 for number in range(10)})
    events = [
        Event(sequence=1, run_started=RunStarted(epochs=1)),
        Event(sequence=2, metrics_measured=MetricsMeasured(stage=STAGE_BEFORE, metrics=values)),
        Event(sequence=3, epoch=1, metrics_measured=MetricsMeasured(stage=STAGE_EPOCH, metrics=values)),
    ]
    stored = [journal.append(f"run-{number}", f"u{number}", events) for number in range(RUNS)]
    for future in stored:
        run = future.result().run
        book.add(run, events)
        waiting.offer(run)


def main() -> None:
    """Measures CPU seconds of the thread that answers."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "tracker.sqlite", clock=time.time)
        book, cursors = Book(journal), Cursors(journal)
        deliveries = [Delivery(sink, journal, cursors) for sink in (PrometheusSink(book), Stuck(book))]
        registry: CollectorRegistry = metrics.registry("tracker")
        TrackerMetrics(registry)
        registry.register(RunCollector(journal, book, time.time))
        registry.register(SinkCollector(deliveries, cursors, lambda: "offline"))
        fill(journal, book, deliveries[1])
        seconds = []
        text = generate_latest(registry)
        for _ in range(SCRAPES):
            began = time.thread_time()
            text = generate_latest(registry)
            seconds.append(time.thread_time() - began)
        for delivery in deliveries:
            delivery.close()
        journal.close()
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    rows = [
        at_most("scrape with 10,000 live runs, CPU s", statistics.median(seconds), 0.1),
        at_most("series of that scrape", series, 5000),
    ]
    report("scrapes", rows, {"runs": RUNS, "bytes": len(text)})


if __name__ == "__main__":
    main()
