"""The reporter: emitting never waits, everything arrives once and in order, and a commit is all or nothing."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from support.trainer_parts import RUN, trainer_parts
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.errors import BlobsMissingError, StaleWriterError, UnavailableError
from tunevane.rpc.channel import connect
from tunevane_trainer.training import reporter as module
from tunevane_trainer.training.reporter import Reporter, log_event


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.05)


def test_events_arrive_once_in_order_with_commits_between(tmp_path: Path) -> None:
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "secret", tmp_path / "outbox")
        reporter.start(parts.claim("secret"))
        for epoch in range(5):
            reporter.epoch = epoch
            for number in range(20):
                reporter.log(f"{epoch}.{number}")
            reporter.commit([log_event(f"{epoch} ends"), log_event(f"{epoch} saved")])
            assert parts.texts()[-1] == f"{epoch} saved"
        reporter.close()
        expected = [[f"{epoch}.{n}" for n in range(20)] + [f"{epoch} ends", f"{epoch} saved"] for epoch in range(5)]
        assert parts.texts() == [text for texts in expected for text in texts]
        assert [event.epoch for event in parts.events()] == [epoch for epoch in range(5) for _ in range(22)]
        assert not list((tmp_path / "outbox").iterdir())


def test_emitted_events_and_signs_of_life_arrive_by_themselves(tmp_path: Path) -> None:
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "secret")
        reporter.start(parts.claim("secret"))
        assert parts.listener.heard.wait(20)
        reporter.log("hello")
        deadline = time.monotonic() + 20
        while not parts.texts():
            assert time.monotonic() < deadline
            parts.listener.heard.clear()
            parts.listener.heard.wait(1)
        reporter.close()
        assert parts.texts() == ["hello"]


def test_a_refused_commit_is_told_and_the_events_go_on(tmp_path: Path) -> None:
    missing = blob_pb2.BlobRef(blake3="a" * 64, size_bytes=1)
    weights = blob_pb2.Bundle(files=[blob_pb2.BundleFile(path="w", blob=missing)])
    saved = event_pb2.Event(checkpoint_saved=event_pb2.CheckpointSaved(weights=weights))
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "secret", tmp_path / "outbox")
        reporter.start(parts.claim("secret"))
        reporter.log("before")
        with pytest.raises(BlobsMissingError):
            reporter.commit([log_event("lost with it"), saved])
        reporter.log("after")
        reporter.commit([log_event("why")])
        reporter.close()
        assert parts.texts() == ["before", "after", "why"]


def test_an_event_that_the_service_refuses_is_told_and_poisons_nothing(tmp_path: Path) -> None:
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "first", tmp_path / "outbox")
        reporter.start(parts.claim("first"))
        reporter.log("before")
        reporter.log("x" * (5 << 20))
        for number in range(3):
            reporter.log(f"after {number}")
        reporter.commit([log_event("committed")])
        before, told, *after = parts.texts()
        assert before == "before"
        assert told.startswith("1 events were refused by the trainer service and are lost: ")
        assert after == ["after 0", "after 1", "after 2", "committed"]
        reporter.close()
        successor = Reporter(channel, RUN, "second", tmp_path / "outbox")
        successor.start(parts.claim("second"))
        successor.flush()
        successor.close()
        assert parts.texts() == [before, told, *after]


def test_a_worker_that_was_replaced_is_told_when_it_emits(tmp_path: Path) -> None:
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "old", tmp_path / "outbox")
        reporter.start(parts.claim("old"))
        parts.claim("new")
        with pytest.raises(StaleWriterError):
            reporter.commit([log_event("late")])
        with pytest.raises(StaleWriterError):
            reporter.log("later")
        reporter.close()
        with pytest.raises((StaleWriterError, UnavailableError)):
            reporter.log("latest")
        assert parts.texts() == []


def test_the_next_worker_hands_over_what_a_lost_one_left_and_no_half_commit(tmp_path: Path) -> None:
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        lost = Reporter(channel, RUN, "first", tmp_path / "outbox")
        lost.start(parts.claim("first"))
        lost.log("sent")
        lost.commit([log_event("epoch 1")])
        # As after kill -9: the sender is gone, the file has what was emitted since.
        lost._closing = True
        lost._thread.join()
        assert lost._outbox is not None
        for number in range(3):
            lost._outbox.append(log_event(f"last words {number}").SerializeToString(), 1, 1, 1)
        lost._outbox.reserve(1)
        os.close(lost._outbox._file)
        successor = Reporter(channel, RUN, "second", tmp_path / "outbox")
        successor.start(parts.claim("second"))
        successor.commit([log_event("goes on")])
        successor.close()
        assert parts.texts() == ["sent", "epoch 1", "last words 0", "last words 1", "last words 2", "goes on"]


def test_emitting_costs_little_while_the_service_is_frozen(tmp_path: Path) -> None:
    """The bound is loose, because machines that test are busy; benchmarks/events.py has the exact one."""
    with trainer_parts(tmp_path) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "secret", tmp_path / "outbox")
        reporter.start(parts.claim("secret"))
        reporter.flush()
        frozen = threading.Event()
        parts.runs._thread.submit(frozen.wait)
        event = event_pb2.Event(step_reported=event_pb2.StepReported(batch=1, loss=0.5, learning_rate=1e-5))
        waits = []
        for _ in range(20_000):
            began = time.perf_counter()
            reporter.emit(event)
            waits.append(time.perf_counter() - began)
        assert sorted(waits)[int(0.99 * len(waits))] < 0.001
        frozen.set()
        reporter.flush()
        reporter.close()
        assert len(parts.events()) == 20_000
