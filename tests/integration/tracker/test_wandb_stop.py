"""The Stop button of a run's page at W&B cancels the run, and only that run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from support.tracker_service import eventually, tracker
from support.trainer_parts import RUN, trainer_parts
from support.wandb_runs import CONFIG, settings
from support.wandb_server import wandb_server
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1.event_pb2 import Event, RunStarted
from tunevane_trainer import mirror

pytest.importorskip("wandb")


@pytest.mark.nightly
def test_stop_cancels_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    describe = mirror.describe

    def with_logger(run: run_pb2.Run) -> Struct:
        return json_format.ParseDict(CONFIG, Struct()) if run.name == RUN else describe(run)

    monkeypatch.setattr(mirror, "describe", with_logger)
    with (
        wandb_server(stopped=True) as server,
        tracker(settings(tmp_path / "tracker", server)) as served,
        trainer_parts(tmp_path, served.target) as parts,
    ):
        parts.create("runs/other-run")

        def state(run: str) -> int:
            return asyncio.run(parts.runs.call(lambda: parts.runs.store.get(run))).state

        started = Event(run_started=RunStarted(epochs=2, batches_per_epoch=3))
        asyncio.run_coroutine_threadsafe(parts.runs.append(RUN, [started]), parts.loop).result(30)

        def cancelled() -> bool:
            # A run under way reports something every second.
            parts.append(RUN, "a line")
            parts.append("runs/other-run", "a line")
            return state(RUN) == run_pb2.RUN_STATE_CANCELLING

        # wandb asks every 15 seconds.
        eventually(cancelled, 60.0)
        eventually(lambda: not parts.unmirrored())
        assert parts.texts().count("Cancelling, because Stop was pressed at Weights & Biases") == 1
        assert state("runs/other-run") == run_pb2.RUN_STATE_RUNNING
