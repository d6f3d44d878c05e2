"""What Prometheus sees is bounded: ended runs leave after 15 minutes, and too many runs are counted, not shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from tunevane_tracker.book import Book
from tunevane_tracker.journal import Journal
from tunevane_tracker.sinks.families import split_metric
from tunevane_tracker.sinks.prometheus import MAX_FINISHED, SHOWN_AFTER_END_SECONDS, RunCollector

RUN = whole_run(epochs=1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Iterator[Journal]:
    made = Journal(tmp_path / "tracker.sqlite", clock=clock)
    yield made
    made.close()


def shown(journal: Journal, clock: Clock) -> tuple[set[str], float]:
    families = {family.name: family for family in RunCollector(journal, Book(journal), clock).collect()}
    uids = {sample.labels["run_id"] for sample in families["tunevane_run_info"].samples}
    return uids, families["tunevane_tracker_runs_left_out"].samples[0].value


def test_an_ended_run_leaves_after_a_quarter_of_an_hour(journal: Journal, clock: Clock) -> None:
    journal.append("ended-run", "ended", RUN).result()
    journal.append("live-run", "live", RUN[:3]).result()
    clock.now += SHOWN_AFTER_END_SECONDS - 1
    assert shown(journal, clock) == ({"ended", "live"}, 0)
    clock.now += 1
    assert shown(journal, clock) == ({"live"}, 0)


def test_only_the_newest_ended_runs_are_shown_and_the_rest_counted(journal: Journal, clock: Clock) -> None:
    futures = [journal.append(f"run-{number}", f"u{number}", RUN) for number in range(MAX_FINISHED + 3)]
    futures.append(journal.append("live-run", "live", RUN[:3]))
    for future in futures:
        future.result()
    uids, left_out = shown(journal, clock)
    assert uids == {"live", *(f"u{number}" for number in range(3, MAX_FINISHED + 3))}
    assert left_out == 3


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("minilm_ndcg@10", ("minilm_ndcg", "10")),
        ("minilm_precision_at_5", ("minilm_precision", "5")),
        ("minilm_reciprocal_rank", ("minilm_reciprocal_rank", "")),
        ("minilm_precision_at_k", ("minilm_precision_at_k", "")),
    ],
)
def test_names_of_metrics_are_split_into_name_and_k(name: str, parts: tuple[str, str]) -> None:
    assert split_metric(name) == parts
