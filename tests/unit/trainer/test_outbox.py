"""The outbox keeps events in order, through the death of the process, damage and a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunevane_trainer.training import outbox as module
from tunevane_trainer.training.outbox import Outbox


def explain(text: str) -> bytes:
    return f"<{text}>".encode()


def drain(outbox: Outbox) -> list[bytes]:
    found = []
    while (parcel := outbox.next(outbox.end)).count:
        found.append(parcel.content)
        outbox.arrived(parcel, may_empty=True)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "one.events"


def test_events_come_out_in_order_and_the_file_goes_with_them(path: Path) -> None:
    outbox = Outbox(path, 1, explain)
    for number in range(5):
        outbox.append(b"%d," % number, 1)
    parcel = outbox.next(outbox.end)
    assert (parcel.content, parcel.count) == (b"0,1,2,3,4,", 5)
    outbox.append(b"5,", 1)
    outbox.arrived(parcel, may_empty=True)
    assert drain(outbox) == [b"5,"]
    outbox.close()
    assert not path.exists()


def test_a_parcel_has_few_bytes_but_at_least_one_event(path: Path) -> None:
    outbox = Outbox(path, 1, explain)
    sizes = [30_000, 30_000, 30_000, 200_000, 10]
    for size in sizes:
        outbox.append(b"x" * size, 1)
    assert [len(each) for each in drain(outbox)] == [60_000, 30_000, 200_000, 10]
    outbox.close()


def test_an_emptied_file_is_small_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_BYTES", 1000)
    outbox = Outbox(path, 1, explain)
    for _ in range(20):
        outbox.append(b"x" * 100, 1)
    drain(outbox)
    assert path.stat().st_size < 10
    outbox.append(b"after", 1)
    assert drain(outbox) == [b"after"]
    outbox.close()


def test_what_a_file_held_before_it_began_anew_is_not_handed_over_again(path: Path) -> None:
    outbox = Outbox(path, 1, explain)
    for _ in range(5):
        outbox.append(b"a long event that has arrived", 1)
    drain(outbox)
    outbox.append(b"new", 1)
    os.close(outbox._file)
    following = Outbox(path, 6, explain)
    assert drain(following) == [b"new"]
    following.close()


@pytest.mark.parametrize(("arrived", "left"), [(1, b"012"), (3, b"2"), (4, b"")])
def test_a_new_worker_finds_what_had_not_arrived(path: Path, arrived: int, left: bytes) -> None:
    outbox = Outbox(path, 1, explain)
    for number in range(3):
        outbox.append(b"%d" % number, 1)
    os.close(outbox._file)
    following = Outbox(path, arrived, explain)
    assert b"".join(drain(following)) == left
    following.close()


def test_numbers_of_commits_are_counted_and_those_of_refused_ones_taken_back(path: Path) -> None:
    outbox = Outbox(path, 1, explain)
    outbox.append(b"1", 1)
    first = outbox.reserve(3)
    outbox.append(b"5 or 2", 1)
    outbox.refused(first, 3)
    outbox.append(b"3", 1)
    os.close(outbox._file)
    # The service has the first two: the commit was refused, so the event behind it is number 2.
    following = Outbox(path, 3, explain)
    assert drain(following) == [b"3"]
    following.close()


def test_an_outbox_that_another_worker_holds_is_left_alone(path: Path) -> None:
    held = Outbox(path, 1, explain)
    held.append(b"held", 1)
    other = Outbox(path, 1, explain)
    other.append(b"other", 1)
    assert drain(other) == [b"other"]
    other.close()
    assert drain(held) == [b"held"]
    held.close()


def test_without_a_folder_events_wait_in_a_temporary_file(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for path in (None, blocked / "one.events"):
        outbox = Outbox(path, 1, explain)
        outbox.append(b"x", 1)
        assert drain(outbox) == [b"x"]
        outbox.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), kind=st.sampled_from(["flip", "cut", "zeros"]))
def test_of_a_damaged_file_a_beginning_is_left_and_the_rest_is_named(
    path: Path, share: float, bit: int, kind: str
) -> None:
    path.unlink(missing_ok=True)
    outbox = Outbox(path, 1, explain)
    events = [b"event %d" % number * 3 for number in range(12)]
    for event in events:
        outbox.append(event, 1)
    os.close(outbox._file)
    content = bytearray(path.read_bytes())
    place = int(share * len(content))
    if kind == "flip":
        content[place] ^= 1 << bit
    elif kind == "cut":
        del content[place:]
    else:
        content[place:] = bytes(len(content) - place)
    path.write_bytes(content)
    following = Outbox(path, 1, explain)
    found = b"".join(drain(following))
    kept, _, said = found.partition(b"<")
    assert kept == b"".join(events)[: len(kept)]
    # The last eight bytes say that nothing follows.
    assert len(kept) < len(b"".join(events)) or place >= len(content) - 8
    if kind == "flip":
        assert said.endswith(b"were damaged>")
    following.close()


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_drops_events_and_says_how_many(path: Path) -> None:
    outbox = Outbox(path, 1, explain)
    outbox.append(b"a" * 50, 1)
    with files_of_at_most(100):
        for _ in range(3):
            outbox.append(b"b" * 50, 2)
    outbox.append(b"c" * 50, 1)
    said = explain("6 events were dropped, because the worker's disk was full")
    assert b"".join(drain(outbox)) == b"a" * 50 + said + b"c" * 50
    outbox.close()


WORKER = """
import os, sys
from pathlib import Path
from tunevane_trainer.training.outbox import Outbox

outbox = Outbox(Path(sys.argv[1]), 1, str.encode)
for number in range(1, 1001):
    outbox.append(b"%d," % number, 1)
    if number == 500:
        print("half", flush=True)
        sys.stdin.readline()
"""


def test_what_was_emitted_survives_kill_9(path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "half\n"
        worker.kill()
    outbox = Outbox(path, 101, explain)
    assert b"".join(drain(outbox)) == b"".join(b"%d," % number for number in range(101, 501))
    outbox.close()
