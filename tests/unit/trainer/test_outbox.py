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

from tunevane.api.trainer.v1 import runner_service_pb2 as wire
from tunevane.api.type.v1 import event_pb2
from tunevane_trainer.training import outbox as module
from tunevane_trainer.training.outbox import Outbox, field


def line(text: str) -> bytes:
    return event_pb2.Event(log_written=event_pb2.LogWritten(text=text)).SerializeToString()


def add(outbox: Outbox, *texts: str) -> None:
    for text in texts:
        outbox.append(line(text), 0, 0, 0)


def texts(content: bytes) -> list[str]:
    return [event.log_written.text for event in wire.AppendEventsRequest.FromString(content).events]


def drain(outbox: Outbox) -> list[str]:
    found = []
    while (parcel := outbox.next(outbox.end)).count:
        assert len(texts(parcel.content)) == parcel.count
        found += texts(parcel.content)
        outbox.arrived(parcel, may_empty=True)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "one.events"


def test_events_come_out_in_order_and_the_file_goes_with_them(path: Path) -> None:
    outbox = Outbox(path, 1, line)
    add(outbox, *"01234")
    parcel = outbox.next(outbox.end)
    assert (texts(parcel.content), parcel.count, parcel.first) == (list("01234"), 5, 1)
    add(outbox, "5")
    outbox.arrived(parcel, may_empty=True)
    assert drain(outbox) == ["5"]
    outbox.close()
    assert not path.exists()


def test_time_epoch_and_step_are_put_into_an_event_that_does_not_say_so(path: Path) -> None:
    outbox = Outbox(path, 1, line)
    outbox.append(line("a"), 5_000_000_007, 3, 40)
    outbox.append(event_pb2.Event(epoch=1, step=9).SerializeToString(), 6_000_000_000, 0, 0)
    first, second = wire.AppendEventsRequest.FromString(outbox.next(outbox.end).content).events
    assert (first.event_time.seconds, first.event_time.nanos, first.epoch, first.step) == (5, 7, 3, 40)
    assert first.log_written.text == "a"
    assert (second.event_time.seconds, second.epoch, second.step) == (6, 1, 9)
    outbox.close()


def test_a_parcel_has_few_bytes_but_at_least_one_event(path: Path) -> None:
    outbox = Outbox(path, 1, line)
    add(outbox, *("x" * size for size in (30_000, 30_000, 30_000, 200_000, 10)))
    sizes = []
    while (parcel := outbox.next(outbox.end)).count:
        sizes.append([len(text) for text in texts(parcel.content)])
        outbox.arrived(parcel, may_empty=True)
    assert sizes == [[30_000, 30_000], [30_000], [200_000], [10]]
    outbox.close()


def test_a_file_that_grew_is_small_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_BYTES", 1000)
    outbox = Outbox(path, 1, line)
    add(outbox, *("x" * 100 for _ in range(20)))
    drain(outbox)
    assert path.stat().st_size < 100
    add(outbox, "after")
    assert drain(outbox) == ["after"]
    outbox.close()


def test_what_a_file_held_before_it_began_anew_is_not_handed_over_again(path: Path) -> None:
    outbox = Outbox(path, 1, line)
    add(outbox, *("a long event that has arrived" for _ in range(5)))
    drain(outbox)
    add(outbox, "new")
    os.close(outbox._file)
    following = Outbox(path, 6, line)
    assert drain(following) == ["new"]
    following.close()


@pytest.mark.parametrize(("arrived", "left"), [(1, "012"), (3, "2"), (4, "")])
def test_a_new_worker_finds_what_had_not_arrived(path: Path, arrived: int, left: str) -> None:
    outbox = Outbox(path, 1, line)
    add(outbox, *"012")
    os.close(outbox._file)
    following = Outbox(path, arrived, line)
    add(following, "more")
    os.close(following._file)
    # A third one, should the second die at once.
    third = Outbox(path, arrived, line)
    assert drain(third) == [*left, "more"]
    third.close()


def test_numbers_of_commits_are_counted_and_those_of_refused_ones_taken_back(path: Path) -> None:
    outbox = Outbox(path, 1, line)
    add(outbox, "1")
    first = outbox.reserve(3)
    add(outbox, "5, or 2")
    outbox.refused(first, 3)
    add(outbox, "3")
    os.close(outbox._file)
    # The service has the first two: the commit was refused, so the event behind it is number 2.
    following = Outbox(path, 3, line)
    assert drain(following) == ["3"]
    following.close()


def test_an_outbox_that_another_worker_holds_is_left_alone(path: Path) -> None:
    held = Outbox(path, 1, line)
    add(held, "held")
    other = Outbox(path, 1, line)
    add(other, "other")
    assert drain(other) == ["other"]
    other.close()
    assert drain(held) == ["held"]
    held.close()


def test_without_a_folder_events_wait_in_a_temporary_file(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    for path in (None, blocked / "one.events"):
        outbox = Outbox(path, 1, line)
        add(outbox, "x")
        assert drain(outbox) == ["x"]
        outbox.close()


@pytest.mark.parametrize("length", [0, 1, 100, 126, 127, 128, 129, 16_383, 16_384, 70_000, 3_000_000])
def test_an_event_travels_as_its_message_says(length: int) -> None:
    event = event_pb2.Event(log_written=event_pb2.LogWritten(text="x" * length))
    assert field(event.SerializeToString()) == wire.AppendEventsRequest(events=[event]).SerializeToString()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), kind=st.sampled_from(["flip", "cut", "zeros"]))
def test_of_a_damaged_file_a_beginning_is_left_and_the_rest_is_named(
    path: Path, share: float, bit: int, kind: str
) -> None:
    path.unlink(missing_ok=True)
    outbox = Outbox(path, 1, line)
    events = [f"event {number}" * 3 for number in range(12)]
    add(outbox, *events)
    # What says that nothing follows.
    tail = path.stat().st_size - outbox.end
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
    following = Outbox(path, 1, line)
    found = drain(following)
    kept = [text for text in found if not text.endswith("were damaged")]
    assert kept == events[: len(kept)]
    assert len(found) - len(kept) <= 1
    if kind == "flip":
        assert found[-1].endswith("bytes of events that a lost worker left behind were damaged")
        assert len(kept) < len(events) or place >= outbox.end
    assert tail > 0
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
    outbox = Outbox(path, 1, line)
    add(outbox, "a" * 50)
    with files_of_at_most(200):
        add(outbox, *("b" * 50 for _ in range(3)))
    add(outbox, "c" * 50)
    said = "3 events were dropped, because the worker's disk was full"
    assert drain(outbox) == ["a" * 50, said, "c" * 50]
    outbox.close()


WORKER = """
import sys
from pathlib import Path
from tunevane.api.type.v1 import event_pb2
from tunevane_trainer.training.outbox import Outbox

outbox = Outbox(Path(sys.argv[1]), 1, str.encode)
for number in range(1, 1001):
    event = event_pb2.Event(log_written=event_pb2.LogWritten(text=str(number)))
    outbox.append(event.SerializeToString(), 1, 1, number)
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
    outbox = Outbox(path, 101, line)
    assert drain(outbox) == [str(number) for number in range(101, 501)]
    outbox.close()
