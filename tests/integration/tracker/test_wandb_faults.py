"""Whatever goes wrong between the tracker and W&B, and whenever: every row is there, once and in order."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from support import wandb_versions
from support.tracker_events import whole_run
from support.tracker_service import Served, eventually, kill, sink_processes, tracker
from support.wandb_runs import CONFIG, expected, settings
from support.wandb_server import Fault, WandbServer, wandb_server
from tunevane_tracker import service
from tunevane_tracker.delivery import Delivery

pytest.importorskip("wandb")

EPOCHS = 6
RUN = whole_run(EPOCHS)
CHILD = "tunevane_tracker.sinks.wandb.child"
OPERATIONS = ("file_stream", "UpsertBucket", "RunResumeStatus", "Viewer")
PATIENCE_SECONDS = 100.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(service, "Delivery", partial(Delivery, first_wait_seconds=0.1))


def uids() -> Iterator[str]:
    """Two runs at a time: what hits one must not disturb the other."""
    yield from ("0f3a", "9b1c")


def publish(served: Served, first: int, last: int) -> None:
    for uid in uids():
        served.publish(RUN[first:last], CONFIG if first == 0 else None, uid)


def check(served: Served, server: WandbServer) -> None:
    for uid in uids():

        def complete(uid: str = uid) -> bool:
            # A run that began during an outage was kept offline, and is sent afterwards.
            whole = len(server.rows(uid)) >= len(expected(RUN))
            return whole and served.delivered("wandb", uid) == len(RUN)

        eventually(complete, PATIENCE_SECONDS)
        assert server.rows(uid) == expected(RUN)
    _, metrics = served.get("/metrics")
    assert 'tunevane_tracker_sink_put_aside_events{sink="wandb"} 0.0' in metrics


def strike(draw: random.Random, server: WandbServer) -> None:
    """Lets one thing go wrong."""
    what = draw.choice(["kill child", "kill core", "refuse", "cut", "lose", "outage", "revoke"])
    children = sink_processes(CHILD)
    if what == "kill child" and children:
        kill(draw.choice(children))
    elif what == "kill core" and children:
        with suppress(psutil.NoSuchProcess):
            for core in draw.choice(children).children():
                kill(core)
    elif what == "outage":
        server.away = True
    elif what == "revoke":
        with server.lock:
            server.revoked |= set(server.made)
    else:
        operation = draw.choice(OPERATIONS)
        status = draw.choice([400, 401, 404, 429, 500, 503])
        how = {"cut": "cut", "lose": "lose"}.get(what, "answer")
        with server.lock:
            server.faults.append(Fault(operation, how, status, times=draw.randint(1, 2)))  # type: ignore[arg-type]


def play(seed: int, folder: Path) -> None:
    draw = random.Random(seed)
    with wandb_server() as server, tracker(settings(folder, server, wandb_retry_seconds=0.5)) as served:
        at = 0
        while at < len(RUN):
            step = draw.randint(5, 15)
            publish(served, at, at + step)
            at += step
            server.moved.clear()
            server.moved.wait(2.0)
            if draw.random() < 0.7:
                strike(draw, server)
            if server.away:
                until = time.monotonic() + draw.uniform(1.0, 4.0)
                while (left := until - time.monotonic()) > 0:
                    server.moved.clear()
                    server.moved.wait(left)
                server.away = False
        check(served, server)


@pytest.mark.parametrize("seed", range(4))
def test_any_schedule_of_faults_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    wandb_versions.use(wandb_versions.VERSIONS[seed % 2], monkeypatch)
    play(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4, 104))
def test_any_of_many_schedules_of_faults_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    wandb_versions.use(wandb_versions.VERSIONS[seed % 2], monkeypatch)
    play(seed, tmp_path)
