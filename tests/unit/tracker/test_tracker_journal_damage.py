"""A damaged journal serves what is readable and nothing else, names what is lost, and takes it again."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from tunevane.api.type.v1.event_pb2 import Event, LogWritten
from tunevane.errors import NotFoundError, SequenceGapError
from tunevane_tracker.batch import Batch, DamagedBatchError, checked, checksum
from tunevane_tracker.book import Book
from tunevane_tracker.journal import Journal, TrackedRun

PAGE_BYTES = 4096
RUNS = {f"u{run}": f"run-{run}" for run in range(3)}


def lines(uid: str, count: int) -> list[Event]:
    return [
        Event(sequence=number, log_written=LogWritten(text=f"{uid} line {number} " + "x" * 50))
        for number in range(1, count + 1)
    ]


EVENTS = {uid: lines(uid, 600) for uid in RUNS}


def opened(path: Path) -> Journal:
    return Journal(path, clock=lambda: 1000.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three runs in batches of 20, all of it in the database file."""
    path = tmp_path_factory.mktemp("whole") / "tracker.sqlite"
    journal = opened(path)
    for begin in range(0, 600, 20):
        for uid, name in RUNS.items():
            journal.append(name, uid, EVENTS[uid][begin : begin + 20], {"model": "minilm"}).result()
    journal.close()
    return path


def served(journal: Journal, uid: str) -> Sequence[Event]:
    try:
        return journal.events(journal.run(uid), 0, 10_000)
    except NotFoundError:
        return []


@pytest.mark.parametrize("seed", range(40))
def test_what_is_served_is_right_what_is_not_is_named_and_comes_again(whole: Path, tmp_path: Path, seed: int) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    # The first page says that the file is a database; without it nothing can be read, and the tracker refuses.
    for page in draw.sample(range(1, len(content) // PAGE_BYTES), draw.choice([1, 2, 5])):
        # Somewhere in a page, where SQLite may not notice; at its head; or all of it, as torn writes leave it.
        begin, size = draw.choice([(draw.randrange(PAGE_BYTES - 64), 64), (0, 64), (0, PAGE_BYTES)])
        content[page * PAGE_BYTES + begin : page * PAGE_BYTES + begin + size] = draw.randbytes(size)
    path.write_bytes(content)
    journal = opened(path)
    before = journal.id
    found = {uid: served(journal, uid) for uid in RUNS}
    # What reading found is noted by the writer; a hello comes behind it.
    for uid, name in RUNS.items():
        journal.append(name, uid, []).result()
    for uid, events in found.items():
        assert all(event == EVENTS[uid][event.sequence - 1] for event in events)
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    lost = sum(600 - len(events) for events in found.values())
    assert bool(journal.damage()) == (lost > 0 or bool(list(tmp_path.glob("*.damaged-1"))))
    if lost and not list(tmp_path.glob("*.damaged-1")):
        assert journal.damage().startswith(f"{lost} events are lost until their trainer sends them again (runs/run-")
        assert journal.id != before
    for uid, name in RUNS.items():
        for begin in range(0, 600, 50):
            journal.append(name, uid, EVENTS[uid][begin : begin + 50]).result()
        assert served(journal, uid) == EVENTS[uid]
        assert journal.run(uid).acked == 600
    assert "lost" not in journal.damage()
    journal.close()
    again = opened(path)
    assert all(served(again, uid) == EVENTS[uid] for uid in RUNS)
    again.close()


def damage_batch(path: Path, uid: str, first: int) -> None:
    """Flips a bit in the content of one batch, as a disk would: SQLite does not notice."""
    database = sqlite3.connect(path)
    ((content,),) = database.execute(
        "SELECT b.content FROM batches b JOIN runs r ON r.number = b.run WHERE r.uid = ? AND b.first = ?", (uid, first)
    )
    database.close()
    raw = path.read_bytes()
    place = raw.index(content[100:160])
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])


def test_a_hole_is_found_named_asked_for_and_filled_while_events_behind_it_are_served(
    whole: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    damage_batch(path, "u1", 101)
    journal = opened(path)
    known = journal.id
    found = served(journal, "u1")
    assert [event.sequence for event in found] == [*range(1, 101), *range(121, 601)]
    run = journal.append("run-1", "u1", []).result().run
    assert (run.acked, run.newest) == (100, 600)
    assert journal.id != known
    assert "20 events are lost until their trainer sends them again (runs/run-1 101 to 120)" in journal.damage()
    with pytest.raises(SequenceGapError) as gap:
        journal.append("run-1", "u1", [Event(sequence=601)]).result()
    assert gap.value.details == {"expected_sequence": "101"}
    mended: list[TrackedRun] = []
    journal.on_mended = mended.append
    assert journal.append("run-1", "u1", EVENTS["u1"][100:110]).result().acked == 110
    assert "runs/run-1 111 to 120" in journal.damage()
    done = journal.append("run-1", "u1", EVENTS["u1"][105:130]).result()
    assert (done.acked, done.stored, done.duplicates) == (600, 10, 15)
    assert journal.damage() == ""
    assert [run.acked for run in mended] == [110, 600]
    assert served(journal, "u1") == EVENTS["u1"]
    journal.close()


def test_damage_that_a_repeated_call_meets_is_mended_by_it(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    damage_batch(path, "u0", 1)
    journal = opened(path)
    done = journal.append("run-0", "u0", EVENTS["u0"][:40]).result()
    assert (done.acked, done.stored, done.duplicates) == (600, 20, 20)
    assert served(journal, "u0") == EVENTS["u0"]
    journal.close()


def test_the_state_of_a_run_with_a_hole_tells_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "tracker.sqlite"
    journal = opened(path)
    run = whole_run(epochs=3)
    for begin in range(0, len(run), 4):
        journal.append("run-1", "u1", run[begin : begin + 4]).result()
    journal.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE batches SET checksum = checksum + 1 WHERE first = 5")
    database.commit()
    database.close()
    journal = opened(path)
    status, missing = Book(journal).read(journal.run("u1"), lambda state: (state.status, state.missing))
    assert (status, missing) == ("succeeded", 4)
    journal.close()


def test_a_sentence_about_damage_stays_until_the_damaged_file_is_removed(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    content = bytearray(path.read_bytes())
    content[5 * PAGE_BYTES : 6 * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    for _ in range(2):
        journal = opened(path)
        assert journal.damage().startswith("tracker.sqlite was damaged: ")
        assert "is kept as tracker.sqlite.damaged-1" in journal.damage()
        journal.close()
    (tmp_path / "tracker.sqlite.damaged-1").unlink()
    journal = opened(path)
    assert "damaged-1" not in journal.damage()
    journal.close()


@pytest.mark.parametrize(
    "change", ["acked = 3", "newest = 700", "ended = 'x'", "writer_epoch = 9", "name = 'run-9'", "conflicts = 5"]
)
def test_a_run_that_is_not_as_it_was_written_is_made_anew(whole: Path, tmp_path: Path, change: str) -> None:
    path = Path(shutil.copy(whole, tmp_path))
    database = sqlite3.connect(path)
    database.execute(f"UPDATE runs SET {change} WHERE uid = 'u1'")
    database.commit()
    database.close()
    journal = opened(path)
    run = journal.run("u1")
    assert (run.acked, run.newest, run.ended, run.writer_epoch, run.conflicts) == (600, 600, None, 0, 0)
    assert served(journal, "u1") == EVENTS["u1"]
    assert journal.append("run-1", "u1", [Event(sequence=601)]).result().acked == 601
    journal.close()


def test_a_batch_is_only_what_was_stored() -> None:
    batch = Batch.from_events(lines("u", 3))
    code = checksum(7, 1, 3, batch.content)
    assert list(checked(7, 1, 3, code, batch.content)) == lines("u", 3)
    for wrong in [
        (8, 1, 3, code, batch.content),
        (7, 2, 4, code, batch.content),
        (7, 1, 3, code, batch.content[:-1]),
        (7, 1, 3, None, batch.content),
        (7, 1, 3, code, None),
        (7, 1, 2, checksum(7, 1, 2, batch.content), batch.content),
        (7, 1, 3, checksum(7, 1, 3, b"\x1a\xff"), b"\x1a\xff"),
    ]:
        with pytest.raises(DamagedBatchError):
            checked(*wrong)


def test_a_run_whose_row_is_gone_is_found_in_the_indexes_and_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "tracker.sqlite"
    journal = opened(path)
    run = whole_run()
    journal.append("run-1", "u1", run).result()
    journal.close()
    database = sqlite3.connect(path)
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    database.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    journal = opened(path)
    found = journal.run("u1")
    assert (found.name, found.acked) == ("run-1", len(run))
    assert found.ended == run[-1].event_time.seconds
    assert journal.events(found, 0, 100) == run
    journal.close()


KILLED = """
import os, sys
from pathlib import Path
from tunevane.api.type.v1.event_pb2 import Event, LogWritten
from tunevane_tracker.journal import Journal

journal = Journal(Path(sys.argv[1]), clock=lambda: 1000.0)
for first in range(1, 600, 20):
    events = [Event(sequence=n, log_written=LogWritten(text=f"line {n}")) for n in range(first, first + 20)]
    journal.append("run-1", "u1", events).result()
print(journal.id, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("place", [None, 0.2, 0.5, 0.9])
def test_a_damaged_log_is_noticed_and_an_unfinished_one_is_not(tmp_path: Path, place: float | None) -> None:
    path = tmp_path / "tracker.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True, capture_output=True, text=True)
    wal = tmp_path / "tracker.sqlite-wal"
    content = bytearray(wal.read_bytes())
    if place is None:
        # As kill -9 in the middle of a write leaves it: a beginning of a transaction, without its commit.
        content += content[32:5000]
    else:
        content[int(place * len(content))] ^= 1
    wal.write_bytes(content)
    journal = opened(path)
    run = journal.run("u1")
    assert [event.log_written.text for event in journal.events(run, 0, 1000)] == [
        f"line {n}" for n in range(1, run.acked + 1)
    ]
    if place is None:
        assert (run.acked, journal.damage(), journal.id) == (600, "", done.stdout.strip())
    else:
        assert run.acked < 600
        assert journal.damage().startswith("the end of tracker.sqlite-wal was damaged")
        assert journal.id != done.stdout.strip()
    journal.close()
