"""Every run's log says within two seconds where to look at the run, whatever W&B does meanwhile."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.tracker_events import whole_run
from support.tracker_service import eventually, tracker
from support.wandb_runs import CONFIG
from support.wandb_server import Fault, wandb_server
from tunevane_tracker.config import TrackerConfig

pytest.importorskip("wandb")

RUN = whole_run(1)
RUNS = 3


@contextmanager
def blackhole() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unknown_name() -> Iterator[str]:
    yield "http://no-such-host.invalid"


@contextmanager
def broken_server() -> Iterator[str]:
    with wandb_server(faults=[Fault("*", "answer", 500, times=10**6)]) as server:
        yield server.url


@contextmanager
def server_that_cuts() -> Iterator[str]:
    with wandb_server(away=True) as server:
        yield server.url


@pytest.mark.parametrize("backend", [blackhole, unknown_name, broken_server, server_that_cuts])
def test_the_line_is_there_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend) -> None:  # type: ignore[no-untyped-def]
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    waits = []
    with backend() as url:
        config = TrackerConfig(port=0, http_port=0, state_dir=tmp_path, wandb_base_url=url)
        with tracker(config) as served:
            page = f"View run at http://127.0.0.1:{served.http_port}/runs/some-run"
            for number in range(RUNS):
                begin = time.monotonic()
                notices = list(served.publish(RUN[:3], CONFIG, f"run{number}").notices)
                waits.append(time.monotonic() - begin)
                assert notices.count(page) == 1
            eventually(lambda: served.delivered("wandb", "run0") == 3)
            # Nobody has to wait for a server that is known not to answer.
            begin = time.monotonic()
            served.publish(RUN[:3], CONFIG, "late")
            assert time.monotonic() - begin < 1.0
    assert max(waits) < 2.0
    assert sum(waits) < RUNS * 1.0 + 2.0, "runs that begin together wait together, not one after the other"


def test_a_run_that_waits_for_its_turn_is_told_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrackerConfig(port=0, http_port=0, state_dir=tmp_path, wandb="offline", wandb_processes=1)
    with tracker(config) as served:
        for number in range(3):
            begin = time.monotonic()
            notices = list(served.publish(RUN[:3], CONFIG, f"run{number}").notices)
            assert time.monotonic() - begin < 2.0
            assert sum(line.startswith("View run at ") for line in notices) == 1
