"""The journal keeps each event once, without a gap, and what it acknowledged survives kill -9."""

from __future__ import annotations

import copy
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.tracker_events import whole_run
from tunevane.api.type.v1.event_pb2 import Event, LogWritten, StepReported
from tunevane.errors import (
    AlreadyExistsError,
    ConfigurationError,
    NotFoundError,
    ResourceExhaustedError,
    SequenceGapError,
    StaleWriterError,
)
from tunevane_tracker.batch import Batch
from tunevane_tracker.book import Book
from tunevane_tracker.fold import fold
from tunevane_tracker.journal import Journal

RUN = whole_run()


def clock() -> float:
    return 1000.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "tracker.sqlite", clock=clock)
    yield made
    made.close()


def test_duplicates_vanish(journal: Journal) -> None:
    assert journal.append("some-run", "u1", RUN[:5]).result().stored == 5
    again = journal.append("some-run", "u1", RUN[:8]).result()
    assert (again.acked, again.stored, again.duplicates, again.run.conflicts) == (8, 3, 5, 0)
    assert journal.events(again.run, 0, 100) == RUN[:8]


def test_a_gap_is_refused_with_the_number_to_go_on_from(journal: Journal) -> None:
    journal.append("some-run", "u1", RUN[:3]).result()
    with pytest.raises(SequenceGapError) as refused:
        journal.append("some-run", "u1", RUN[5:]).result()
    assert refused.value.details == {"expected_sequence": "4"}
    assert journal.run("u1").acked == 3
    with pytest.raises(SequenceGapError):
        journal.append("other-run", "u2", RUN[1:]).result()
    with pytest.raises(NotFoundError):
        journal.run("u2")


def test_other_content_under_a_number_is_refused_counted_and_the_first_kept(journal: Journal) -> None:
    journal.append("some-run", "u1", RUN[:2]).result()
    other = Event(sequence=2, log_written=LogWritten(text="something else"))
    with pytest.raises(AlreadyExistsError, match="event 2 of runs/some-run .* continue behind event 2") as refused:
        journal.append("some-run", "u1", [other, RUN[2]]).result()
    assert refused.value.details == {"acked_sequence": "2", "conflicts": "1"}
    assert (journal.run("u1").conflicts, journal.run("u1").acked) == (1, 2)
    assert journal.events(journal.run("u1"), 0, 9) == RUN[:2]
    assert journal.append("some-run", "u1", RUN[2:4]).result().acked == 4


def test_the_first_config_is_kept(journal: Journal) -> None:
    journal.append("some-run", "u1", RUN[:1], {"epochs": 2}).result()
    assert journal.append("some-run", "u1", RUN[:1], {"epochs": 3}).result().run.config == {"epochs": 2}


def test_a_name_that_came_again_means_the_newest_run(journal: Journal) -> None:
    journal.append("some-run", "u1", RUN).result()
    journal.append("some-run", "u2", RUN[:1]).result()
    assert (journal.run("some-run").uid, journal.run("u1").ended, journal.run("u2").ended) == ("u2", 1000.0, None)
    assert [run.uid for run in journal.runs(10)] == ["u2", "u1"]


def test_too_many_runs_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracker.sqlite", clock=clock, max_runs=1)
    journal.append("some-run", "u1", RUN[:1]).result()
    with pytest.raises(ResourceExhaustedError, match="limit is 1"):
        journal.append("more-runs", "u2", RUN[:1]).result()
    journal.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.tuples(st.integers(0, len(RUN)), st.integers(0, 7)), max_size=12))
def test_any_calls_leave_a_beginning_of_the_run(journal: Journal, chunks: list[tuple[int, int]]) -> None:
    uid, acked = uuid4().hex, 0
    for begin, size in chunks:
        events = RUN[begin : begin + size]
        if events and begin > acked:
            with pytest.raises(SequenceGapError):
                journal.append("some-run", uid, events).result()
        else:
            acked = max(acked, begin + len(events)) if events else acked
            assert journal.append("some-run", uid, events).result().acked == acked
    if acked:
        assert journal.events(journal.run(uid), 0, 1000) == RUN[:acked]


def test_an_older_publisher_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tracker.sqlite"
    journal = Journal(path, clock=clock)
    batch = Batch.from_events
    journal.append_batch("some-run", "u1", batch(RUN[:2]), writer_epoch=5).result()
    journal.append_batch("some-run", "u1", batch(RUN[2:4]), writer_epoch=7).result()
    for restart in (False, True):
        if restart:
            journal.close()
            journal = Journal(path, clock=clock)
        for old in (0, 5, 6):
            with pytest.raises(StaleWriterError, match="started later") as refused:
                journal.append_batch("some-run", "u1", batch(RUN[4:6]), writer_epoch=old).result()
            assert refused.value.details == {"writer_epoch": "7"}
        assert journal.run("u1").acked == 4
    # Another run is another matter.
    assert journal.append_batch("other-run", "u2", batch(RUN[:1]), writer_epoch=1).result().acked == 1
    assert journal.append_batch("some-run", "u1", batch(RUN[4:]), writer_epoch=7).result().acked == len(RUN)
    journal.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.tuples(st.integers(0, 9), st.integers(1, 9)), st.just("restart")), max_size=25))
def test_batching_repetition_and_restarts_do_not_change_the_state(
    tmp_path: Path, steps: list[tuple[int, int] | str]
) -> None:
    path, acked = tmp_path / f"{uuid4().hex}.sqlite", 0
    journal = Journal(path, clock=clock)
    book = Book(journal)
    for step in [*steps, (len(RUN), len(RUN))]:
        if isinstance(step, str):
            journal.close()
            journal = Journal(path, clock=clock)
            book = Book(journal)
        else:
            # From a few events back, some of them again; seen meanwhile or not.
            back, size = step
            begin = max(0, acked - back)
            done = journal.append("some-run", "u1", RUN[begin : max(begin + size, acked)]).result()
            acked = done.acked
            if size % 2:
                book.read(done.run, lambda state: state.sequence)
    journal.append("some-run", "u1", RUN).result()
    assert book.read(journal.run("u1"), copy.deepcopy) == fold(RUN)
    journal.close()


def test_values_and_times_of_any_kind_come_back_bit_by_bit(journal: Journal) -> None:
    values = [math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0, float(2**63)]
    seconds = [-(1 << 62), 0, 253_402_300_799, (1 << 62)]
    events = [
        Event(sequence=n, step=-(2**63), step_reported=StepReported(loss=values[n % 7], learning_rate=values[-(n % 7)]))
        for n in range(1, 29)
    ]
    for number, event in enumerate(events):
        event.event_time.seconds = seconds[number % 4]
        journal.append("some-run", "u1", [event]).result()
    kept = journal.events(journal.run("u1"), 0, 100)
    assert [event.SerializeToString() for event in kept] == [event.SerializeToString() for event in events]
    assert journal.append("some-run", "u1", events).result().duplicates == 28


def test_a_backup_under_load_is_whole_and_restored_under_another_name(tmp_path: Path) -> None:
    """As docs/tracker.md tells it."""
    path, copy_path = tmp_path / "tracker.sqlite", tmp_path / "backup.sqlite"
    journal = Journal(path, clock=clock)
    name = journal.id
    pending = [journal.append("some-run", "u1", [event]) for event in RUN[:10]]
    pending[4].result()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy_path),))
    journal.append("some-run", "u1", RUN[10:]).result()
    journal.close()
    with closing(sqlite3.connect(copy_path)) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'journal_id'")
        connection.commit()
    restored = Journal(copy_path, clock=clock)
    run = restored.run("u1")
    assert 5 <= run.acked <= 10
    assert restored.events(run, 0, 100) == RUN[: run.acked]
    assert restored.id not in {"", name}
    assert restored.append("some-run", "u1", RUN).result().stored == len(RUN) - run.acked
    restored.close()


WRITER = """
import sys, time
from pathlib import Path
from tunevane.api.type.v1.event_pb2 import Event, LogWritten, StepReported
from tunevane_tracker.journal import Journal

journal = Journal(Path(sys.argv[1]), clock=time.time)
first = int(sys.argv[2])
while True:
    batch = [Event(sequence=first + i, log_written=LogWritten(text=f"line {first + i}")) for i in range(20)]
    first = journal.append("some-run", "u1", batch).result().acked + 1
    print(first - 1, flush=True)
"""


def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, acked = tmp_path / "tracker.sqlite", 0
    for round_ in range(3):
        command = [sys.executable, "-c", WRITER, str(path), str(max(1, acked - 7))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(5 + 10 * round_):
                acked = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            acked = max([acked, *(int(line) for line in writer.stdout.read().splitlines() if line)])
        journal = Journal(path, clock=clock)
        run = journal.run("u1")
        events = journal.events(run, 0, 1_000_000)
        journal.close()
        assert run.acked >= acked
        assert [event.log_written.text for event in events] == [f"line {i}" for i in range(1, run.acked + 1)]
        acked = run.acked


def test_a_damaged_or_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match=r"move .* aside"):
        Journal(damaged, clock=clock)
    assert damaged.read_bytes().startswith(b"no database")
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ConfigurationError, match="has format 99"):
        Journal(newer, clock=clock)
