"""The mirror: training does not notice whether there is a tracker, and the tracker gets everything once."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.tracker_service import Served, tracker
from support.trainer_parts import RUN, Parts, trainer_parts
from support.waits import eventually
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1 import event_pb2
from tunevane.rpc.channel import connect
from tunevane_tracker.config import TrackerConfig
from tunevane_trainer import mirror as module
from tunevane_trainer.publisher import Publisher
from tunevane_trainer.training import reporter as reporter_module
from tunevane_trainer.training.reporter import Reporter, log_event


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(reporter_module, "EVERY_SECONDS", 0.02)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def settings(folder: Path, port: int, max_runs: int = 100) -> TrackerConfig:
    return TrackerConfig(port=port, http_port=0, state_dir=folder, wandb="off", max_runs=max_runs)


def tracked(served: Served, run: str = RUN) -> list[event_pb2.Event]:
    events: list[event_pb2.Event] = []
    token = ""
    while True:
        page = served.stub.ListEvents(pb.ListEventsRequest(run=run, page_size=1000, page_token=token))
        events += page.events
        token = page.next_page_token
        if not token:
            return events


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def mirrored(parts: Parts) -> None:
    eventually(lambda: not parts.unmirrored(), timeout_seconds=60)


def test_an_hour_without_a_tracker_costs_no_step(tmp_path: Path, silent: socket.socket) -> None:
    """Two reports a second for an hour, and a commit a minute, as fast as they can be made."""
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    with trainer_parts(tmp_path, address) as parts, connect(parts.address) as channel:
        reporter = Reporter(channel, RUN, "secret", tmp_path / "outbox")
        reporter.start(parts.claim("secret"))
        slow = 0
        for minute in range(60):
            for second in range(60):
                for half in range(2):
                    reporter.step += 1
                    began = time.perf_counter()
                    reporter.emit(
                        event_pb2.Event(step_reported=event_pb2.StepReported(batch=half, loss=1.0 / (second + 1)))
                    )
                    slow += time.perf_counter() - began > 0.01
            reporter.commit([log_event(f"minute {minute}")])
        reporter.close()
        # None waited for a tracker: that takes a second. A busy machine may hold up a few for other reasons.
        assert slow < 72
        assert [event.step for event in parts.events() if event.HasField("step_reported")] == list(range(1, 7201))
        assert parts.unmirrored() == [(RUN, 0)]
        silent.close()
        with tracker(settings(tmp_path / "tracker", port_of(address))) as served:
            mirrored(parts)
            assert tracked(served) == parts.events()


def test_a_run_that_the_tracker_refuses_holds_up_no_other(tmp_path: Path) -> None:
    with (
        tracker(settings(tmp_path / "tracker", 0, max_runs=2)) as served,
        trainer_parts(tmp_path, served.target) as parts,
    ):
        for run in ("runs/second-run", "runs/third-run", "runs/x"):
            parts.create(run)
        for run in (RUN, "runs/second-run", "runs/third-run", "runs/x"):
            parts.append(run, f"first line of {run}")
        for number in range(3):
            parts.append("runs/second-run", f"line {number}")
        # One too many, and one whose name a tracker does not take.
        refused = [("runs/third-run", 0), ("runs/x", 0)]
        eventually(lambda: parts.unmirrored() == refused)
        assert [each.log_written.text for each in tracked(served, "runs/second-run")][:1] == [
            "first line of runs/second-run"
        ]


def test_an_event_that_is_too_large_for_the_tracker_becomes_a_line(tmp_path: Path) -> None:
    with tracker(settings(tmp_path / "tracker", 0)) as served, trainer_parts(tmp_path, served.target) as parts:
        parts.append(RUN, "before", "x" * (2 << 20), "after")
        parts.append(RUN, *("y" * 400_000 for _ in range(10)))
        mirrored(parts)
        texts = [event.log_written.text for event in tracked(served)]
    assert texts[0] == "before"
    assert re.fullmatch(r"An event of 20971\d\d bytes \(log_written\) is too large for the tracker", texts[1])
    assert texts[2] == "after"
    assert [len(text) for text in texts[3:13]] == [400_000] * 10


def test_a_tracker_that_lost_everything_gets_every_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "tracker"
    with tracker(settings(folder, 0)) as served:
        port = port_of(served.target)
        with trainer_parts(tmp_path, served.target) as parts:
            parts.create("runs/second-run")
            parts.append(RUN, "a", "b")
            parts.append("runs/second-run", "c")
            mirrored(parts)
    shutil.rmtree(folder)
    with tracker(settings(folder, port)) as served, trainer_parts(tmp_path, served.target) as parts:
        parts.append(RUN, "d")
        mirrored(parts)
        for run in (RUN, "runs/second-run"):
            assert tracked(served, run) == parts.events(run)


def test_of_two_trainers_with_one_run_the_one_that_started_later_publishes(tmp_path: Path) -> None:
    with tracker(settings(tmp_path / "tracker", 0)) as served, trainer_parts(tmp_path / "one", served.target) as old:
        old.append(RUN, "a")
        mirrored(old)
        # The other one was set up from a copy.
        (tmp_path / "two").mkdir()
        shutil.copy(tmp_path / "one" / "publisher.json", tmp_path / "two")
        with (
            closing(sqlite3.connect(tmp_path / "one" / "runs.sqlite")) as source,
            closing(sqlite3.connect(tmp_path / "two" / "runs.sqlite")) as copy,
        ):
            source.backup(copy)
        with trainer_parts(tmp_path / "two", served.target) as new:
            new.append(RUN, "b of the new one")
            mirrored(new)
            old.append(RUN, "b of the old one")
            new.append(RUN, "c of the new one")
            mirrored(new)
            assert tracked(served) == new.events()
        assert old.unmirrored()


def test_a_publishers_number_grows_whatever_the_clock_says(tmp_path: Path) -> None:
    path = tmp_path / "publisher.json"
    first = Publisher(path, lambda: 5_000_000)
    assert (first.epoch, first.journal_id) == (5, "")
    first.remember("abc")
    second = Publisher(path, lambda: 1_000_000)
    assert (second.epoch, second.journal_id) == (6, "abc")
    path.write_text("no json")
    assert Publisher(path, lambda: 9_000_000).epoch == 9
