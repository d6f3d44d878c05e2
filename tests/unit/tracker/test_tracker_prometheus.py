"""The Prometheus families: names, labels, and a bound on their number."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.scrapes import parse, value
from support.tracker_events import NDCG, whole_run
from tunevane.api.type.v1.event_pb2 import (
    STAGE_BEFORE,
    STAGE_EPOCH,
    VERDICT_IMPROVED,
    DecisionMade,
    Event,
    MetricsMeasured,
    RunStarted,
)
from tunevane.api.type.v1.metric_pb2 import Interval, MetricSet
from tunevane.rpc import metrics
from tunevane_tracker.book import Book
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal
from tunevane_tracker.runs import TrackedRun
from tunevane_tracker.sinks.families import split_metric
from tunevane_tracker.sinks.port import SinkUnavailableError
from tunevane_tracker.sinks.prometheus import (
    MAX_SERIES,
    PrometheusSink,
    RunCollector,
    SinkCollector,
    TrackerMetrics,
)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    opened = Journal(tmp_path / "tracker.sqlite", clock=clock)
    yield opened
    opened.close()


def scrape(journal: Journal, book: Book, clock: Clock) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(RunCollector(journal, book, clock))
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def add(journal: Journal, book: Book, uid: str, events: list[Event], config: dict[str, object] | None = None) -> None:
    book.add(journal.append("some-run", uid, events, config).result(10).run, events)


def test_a_run_has_the_families_of_the_design(journal: Journal, clock: Clock) -> None:
    book = Book(journal)
    config: dict[str, object] = {"model": 'mini"lm\n', "loss": "cosent", "dataset": "d1"}
    add(journal, book, "u1", whole_run(2), config)
    found = scrape(journal, book, clock)
    mine = {"run_id": "u1"}
    info = {**mine, "name": "some-run", "model": 'mini"lm\n', "loss_fn": "cosent", "dataset": "d1"}
    assert found["tunevane_run_info"] == [(info, 1.0)]
    states = {labels["state"]: value for labels, value in found["tunevane_run_state"]}
    assert states == {"pending": 0.0, "running": 0.0, "succeeded": 1.0, "failed": 0.0, "cancelled": 0.0}
    assert found["tunevane_run_train_steps_total"] == [(mine, 6.0)]
    assert found["tunevane_run_epoch"] == [(mine, 2.0)]
    assert found["tunevane_run_train_loss"] == [(mine, 0.5)]
    assert found["tunevane_run_val_loss"] == [(mine, 1.0)]
    assert found["tunevane_run_learning_rate"] == [(mine, 0.5)]
    assert found["tunevane_run_best_epoch"] == [(mine, 2.0)]
    # Zero is a value: no epoch is left, which is not the same as no early stopping.
    assert found["tunevane_run_early_stop_patience_left"] == [(mine, 0.0)]
    assert found["tunevane_run_checkpoints_total"] == [({**mine, "reason": "model"}, 2.0)]
    assert found["tunevane_run_last_event_time_seconds"][0][1] > 0
    scores = {labels["phase"]: value for labels, value in found["tunevane_run_retrieval_score"]}
    assert scores == {"before": 0.5, "current": 0.52, "best": 0.52, "after": 0.52}
    assert {(labels["metric"], labels["k"]) for labels, _ in found["tunevane_run_retrieval_score"]} == {
        split_metric(NDCG)
    }


def test_values_that_nobody_measured_are_absent(journal: Journal, clock: Clock) -> None:
    book = Book(journal)
    add(journal, book, "u1", whole_run(1)[:1])
    found = scrape(journal, book, clock)
    assert "tunevane_run_train_loss" not in found
    assert "tunevane_run_early_stop_patience_left" not in found


def test_the_number_of_series_is_bounded_and_the_rest_is_counted(journal: Journal, clock: Clock) -> None:
    book = Book(journal)
    values = MetricSet(values={f"metric_{number}@10": 0.5 for number in range(1000)})
    runs = 150
    for number in range(runs):
        start = Event(sequence=1, run_started=RunStarted(epochs=1))
        measured = MetricsMeasured(stage=STAGE_EPOCH, metrics=values)
        add(journal, book, f"u{number}", [start, Event(sequence=2, epoch=1, metrics_measured=measured)])
    found = scrape(journal, book, clock)
    assert sum(len(samples) for name, samples in found.items() if name.startswith("tunevane_run_")) <= MAX_SERIES
    shown = {labels["run_id"] for labels, _ in found["tunevane_run_info"]}
    # The newest are shown.
    assert shown == {f"u{number}" for number in range(runs - len(shown), runs)}
    assert found["tunevane_tracker_runs_left_out"] == [({}, float(runs - len(shown)))]
    assert 0 < len(shown) < runs


class StuckSink:
    """A sink that wants every run and takes none, as W&B does while its server is away."""

    name = "stuck"
    workers = 1
    marker = ""

    def wants(self, run: TrackedRun) -> bool:
        return True

    def position(self, run: TrackedRun, delivered: int) -> int:
        return delivered

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        raise SinkUnavailableError("away")

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        raise AssertionError("nothing died")

    def close(self) -> None:
        pass


def test_ten_thousand_runs_cost_a_scrape_neither_series_nor_time(journal: Journal, clock: Clock) -> None:
    book, runs = Book(journal), 10_000
    values = MetricSet(values={f"minilm_metric_{number}@10": 0.5 for number in range(10)})
    before = Event(sequence=2, metrics_measured=MetricsMeasured(stage=STAGE_BEFORE, metrics=values))
    measured = Event(sequence=3, epoch=1, metrics_measured=MetricsMeasured(stage=STAGE_EPOCH, metrics=values))
    events = [Event(sequence=1, run_started=RunStarted(epochs=1)), before, measured]
    stored = [journal.append(f"run-{number}", f"u{number}", events).result for number in range(runs)]
    registry = metrics.registry("tracker")
    cursors = Cursors(journal)
    deliveries = [Delivery(sink, journal, cursors) for sink in (PrometheusSink(book), StuckSink())]
    try:
        for result in stored:
            run = result(60).run
            book.add(run, events)
            deliveries[1].offer(run)
        TrackerMetrics(registry)
        registry.register(RunCollector(journal, book, clock))
        registry.register(SinkCollector(deliveries, cursors, lambda: "offline"))
        generate_latest(registry)
        seconds = []
        for _ in range(5):
            # Of this thread: others work on this machine.
            began = time.thread_time()
            text = generate_latest(registry)
            seconds.append(time.thread_time() - began)
    finally:
        for delivery in deliveries:
            delivery.close()
    samples = parse(text.decode())
    assert sum(len(series) for series in samples.values()) <= 5000
    shown = len(samples["tunevane_run_info"])
    assert shown > 50
    assert value(samples, "tunevane_tracker_runs_left_out") == runs - shown
    assert value(samples, "tunevane_tracker_sink_lag_events", sink="stuck") == 3 * runs
    assert min(seconds) <= 0.1, seconds


def test_what_a_user_chose_is_a_value_of_info_and_never_breaks_the_rest(journal: Journal, clock: Clock) -> None:
    book = Book(journal)
    hostile = 'x" 1\n# EOF\n\\{}' + "y" * 100_000
    names = [*(f"{hostile}{number}" for number in range(40)), "dcg@5", "dcg_at_5", "naïve_✨@3"]
    scores = MetricSet(values=dict.fromkeys(names, float("nan")))
    started = Event(sequence=1, run_started=RunStarted(epochs=1))
    measured = Event(sequence=2, epoch=1, metrics_measured=MetricsMeasured(stage=STAGE_EPOCH, metrics=scores))
    decisions = [
        Event(sequence=3 + number, decision_made=DecisionMade(callback=f"{hostile}{number}", verdict=VERDICT_IMPROVED))
        for number in range(50)
    ]
    config: dict[str, object] = {"model": hostile, "loss": {"a": [hostile]}, "tags": [hostile]}
    add(journal, book, "u1", [started, measured, *decisions], config)
    add(journal, book, "u2", whole_run(1))
    found = scrape(journal, book, clock)
    assert {labels["run_id"] for labels, _ in found["tunevane_run_info"]} == {"u1", "u2"}
    for name, series in found.items():
        keys = [frozenset(labels.items()) for labels, _ in series]
        assert len(set(keys)) == len(keys), f"{name} has a series twice, which makes Prometheus refuse everything"
        assert all(len(text) <= 200 for labels, _ in series for text in labels.values()), name
        if name != "tunevane_run_info":
            assert not {"name", "model", "loss_fn", "dataset", "tags"} & set(series[0][0])
    assert len([labels for labels, _ in found["tunevane_run_retrieval_score"] if labels["run_id"] == "u1"]) <= 25


def test_intervals_of_changes_and_times_of_decisions_are_shown(journal: Journal, clock: Clock) -> None:
    book = Book(journal)
    first, second = Interval(low=-0.01, high=0.03, confidence=0.95), Interval(low=0.01, high=0.05, confidence=0.95)
    events = whole_run(2)
    for event in events:
        if event.HasField("metrics_measured") and event.metrics_measured.stage != STAGE_BEFORE:
            event.metrics_measured.intervals[NDCG].CopyFrom(first if event.epoch == 1 else second)
    add(journal, book, "u1", events)
    found = scrape(journal, book, clock)
    changes = {(labels["phase"], labels["bound"]): value for labels, value in found["tunevane_run_retrieval_change"]}
    assert changes == {
        (phase, end): number
        for phase in ("current", "best", "after")
        for end, number in (("low", 0.01), ("high", 0.05))
    }
    decided = [event.event_time.seconds for event in events if event.HasField("decision_made")]
    labels = {"run_id": "u1", "callback": "best-model-checkpoint", "verdict": "improved"}
    assert found["tunevane_run_last_decision_time_seconds"] == [(labels, float(decided[-1]))]
