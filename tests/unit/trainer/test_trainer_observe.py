"""What the trainer shows: runs in every state, workers against their limit, and what the tracker lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from support.scrapes import read, value
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.observe import STATES, TrainerCollector, TrainerMetrics
from tunevane_trainer.runs import Runs, log_line
from tunevane_trainer.store import RunStore


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(RunStore(tmp_path / "runs.sqlite"), BlobStore(tmp_path / "blobs"))
    yield made
    made.close()


def create(runs: Runs, name: str, state: run_pb2.RunState.ValueType = run_pb2.RUN_STATE_PENDING) -> None:
    runs.ask(lambda: runs.store.create(run_pb2.Run(name=f"runs/{name}", uid=name, state=state), ""))


def collector(runs: Runs, *, mirrored: bool = True) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(TrainerCollector(runs, lambda: 2, 4, mirrored=mirrored))
    return registry


def test_every_state_is_there_and_counted(runs: Runs) -> None:
    registry = collector(runs)
    shown = read(registry)["tunevane_trainer_runs"]
    assert {dict(labels)["state"] for labels in shown} == set(STATES.values())
    assert set(STATES.values()) == {"pending", "running", "cancelling", "succeeded", "failed", "cancelled"}
    assert sum(shown.values()) == 0
    create(runs, "first")
    create(runs, "second")
    create(runs, "third", run_pb2.RUN_STATE_FAILED)
    samples = read(registry)
    assert value(samples, "tunevane_trainer_runs", state="pending") == 2
    assert value(samples, "tunevane_trainer_runs", state="failed") == 1
    assert value(samples, "tunevane_trainer_workers") == 2
    assert value(samples, "tunevane_trainer_workers_limit") == 4


def test_the_mirrors_lag_is_what_the_tracker_has_not_acknowledged(runs: Runs) -> None:
    registry = collector(runs)
    create(runs, "first")
    create(runs, "second")

    async def publish() -> None:
        lines: list[event_pb2.Event] = [log_line(f"line {number}") for number in range(5)]
        await runs.append("runs/first", lines)
        await runs.append("runs/second", lines[:3])

    asyncio.run(publish())
    assert value(read(registry), "tunevane_trainer_mirror_lag_events") == 8
    asyncio.run(runs.append("runs/first", [], mirrored=4))
    assert value(read(registry), "tunevane_trainer_mirror_lag_events") == 4


def test_without_a_tracker_there_is_no_lag(runs: Runs) -> None:
    assert "tunevane_trainer_mirror_lag_events" not in read(collector(runs, mirrored=False))


def test_counters_begin_at_zero() -> None:
    registry = CollectorRegistry()
    TrainerMetrics(registry)
    samples = read(registry)
    names = ("worker_starts", "worker_restarts", "workers_lost", "mirror_errors")
    assert {name: value(samples, f"tunevane_trainer_{name}_total") for name in names} == dict.fromkeys(names, 0.0)
    assert all(f"tunevane_trainer_{name}_total" in samples for name in names)
