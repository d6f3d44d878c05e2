"""The Prometheus families: names, labels, and a bound on their number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.tracker_events import NDCG, whole_run
from tunevane.api.type.v1.event_pb2 import STAGE_EPOCH, Event, MetricsMeasured, RunStarted
from tunevane.api.type.v1.metric_pb2 import MetricSet
from tunevane_tracker.book import Book
from tunevane_tracker.journal import Journal
from tunevane_tracker.sinks.families import split_metric
from tunevane_tracker.sinks.prometheus import MAX_SERIES, RunCollector


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
