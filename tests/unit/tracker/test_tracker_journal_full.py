"""A full disk: nothing is acknowledged, the sentence names bytes, and writing goes on once there is space."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunevane.api.type.v1.event_pb2 import Event, LogWritten
from tunevane.errors import StorageFullError
from tunevane_tracker.journal import Journal


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size, as a full disk or a quota would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def batch(first: int) -> list[Event]:
    return [Event(sequence=first + i, log_written=LogWritten(text="x" * 2000)) for i in range(10)]


def fill(journal: Journal, acked: int) -> tuple[int, StorageFullError]:
    """Appends until the disk is full; returns what was acknowledged, and the refusal."""
    while True:
        try:
            acked = journal.append("some-run", "u1", batch(acked + 1)).result().acked
        except StorageFullError as error:
            return acked, error


def test_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    broken: list[bool] = []
    path = tmp_path / "tracker.sqlite"
    journal = Journal(path, clock=lambda: 1000.0, on_broken=lambda: broken.append(True))
    acked = journal.append("some-run", "u1", batch(1)).result().acked
    for size_bytes in (400_000, 800_000):
        with files_of_at_most(size_bytes):
            acked, error = fill(journal, acked)
            again, _ = fill(journal, acked)
        assert again == acked
        assert re.fullmatch(
            r"the disk of tracker\.sqlite is full: 20\d{3} bytes of events could not be written, and \d+ bytes are free"
            r" on it; free some space or raise its limit, nothing acknowledged is lost",
            error.message,
        )
        run = journal.run("u1")
        assert run.acked == acked
        assert [event.sequence for event in journal.events(run, 0, 10_000)] == list(range(1, acked + 1))
        acked = journal.append("some-run", "u1", batch(acked + 1)).result().acked
    assert not broken
    journal.close()
    journal = Journal(path, clock=lambda: 1000.0)
    assert [event.sequence for event in journal.events(journal.run("u1"), 0, 10_000)] == list(range(1, acked + 1))
    assert journal.damage() == ""
    journal.close()


def test_of_several_runs_in_one_commit_none_is_acknowledged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "tracker.sqlite", clock=lambda: 1000.0)
    with files_of_at_most(200_000):
        futures = [journal.append(f"run-{i}", f"u{i}", batch(1)) for i in range(40)]
        results = [future.exception(30) for future in futures]
    assert any(isinstance(result, StorageFullError) for result in results)
    stored = {run.uid: run.acked for run in journal.runs(100)}
    assert {f"u{i}" for i, result in enumerate(results) if result is None} == {
        u for u, acked in stored.items() if acked
    }
    for i, result in enumerate(results):
        if result is not None:
            with pytest.raises(StorageFullError):
                futures[i].result()
            assert journal.append(f"run-{i}", f"u{i}", batch(1)).result().acked == 10
    journal.close()
