"""Two processes train as one does with the same batch; when one of them is lost or asked to stop, both end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import worker_run
from support.trainer_parts import RUN
from support.training import without_dropout
from support.waits import eventually
from support.worker_run import BATCHES, WorkerRun
from tunevane.callback.components import component
from tunevane.nn import checkpoint
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import gang
from tunevane_trainer.training.follower import PREEMPTED

TOLERANCE = 1e-4
"""Sums of floats in another order; the same for losses, relative, and for weights, absolute."""


@pytest.fixture(autouse=True)
def _no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each process draws its own dropout, so that with it two runs are alike as two seeds are.
    monkeypatch.setattr(worker_run, "model_folder", without_dropout)


def settings(run: WorkerRun, token: str) -> dict[str, str]:
    run.runs.ask(lambda: run.runs.store.grant(RUN, token))
    return {
        **os.environ,
        "TUNEVANE_WORKER_RUN": RUN,
        "TUNEVANE_WORKER_LEASE_TOKEN": token,
        "TUNEVANE_WORKER_TRAINER": run.address,
        "TUNEVANE_WORKER_EVALUATOR": "127.0.0.1:1",
        "TUNEVANE_WORKER_BLOB_DIR": str(run.folder / "worker"),
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }


def test_two_processes_decide_as_one_does(tmp_path: Path) -> None:
    callbacks = [
        component("best-model-checkpoint", {"monitor": "train_loss"}),
        component("early-stopping", {"monitor": "train_loss", "patience": 1, "min_delta": 0.02}),
    ]
    with (
        WorkerRun(tmp_path / "one", callbacks, epochs=4).serving() as one,
        WorkerRun(tmp_path / "two", callbacks, epochs=4).serving() as two,
    ):
        assert one.work() == 0
        environ = {**settings(two, "first"), "TUNEVANE_WORKER_PROCESSES": "2"}
        subprocess.run([sys.executable, "-m", "tunevane_trainer.training"], env=environ, check=True, timeout=200)
        losses = [[event.epoch_ended.train_loss for event in run.events("epoch_ended")] for run in (one, two)]
        decisions = [
            [
                (each.epoch, each.decision_made.callback, each.decision_made.verdict)
                for each in run.events("decision_made")
            ]
            for run in (one, two)
        ]
        kept = [run.run().result.artifact_epoch for run in (one, two)]
        weights = [
            checkpoint.read(
                run.events("checkpoint_saved")[-1].checkpoint_saved.weights, BlobStore(run.folder / "worker")
            )
            for run in (one, two)
        ]
    assert losses[1] == pytest.approx(losses[0], rel=TOLERANCE)
    assert decisions[0]
    assert decisions[0] == decisions[1]
    assert kept[0] == kept[1]
    for name, tensor in weights[0].items():
        assert (tensor.float() - weights[1][name].float()).abs().max() < TOLERANCE, name


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[WorkerRun, list[subprocess.Popen[bytes]]]]:
    """Starts two processes as torchrun does, on a run that would take long."""
    with WorkerRun(tmp_path, epochs=100_000).serving() as run, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environ = settings(run, "first")
        command = [sys.executable, "-m", "tunevane_trainer.training"]
        started = [subprocess.Popen(command, env=gang.environment(rank, 2, port, environ)) for rank in range(2)]
        try:
            eventually(lambda: len(run.events("epoch_ended")) >= 2, 200)
            yield run, started
        finally:
            for each in started:
                each.kill()
                each.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_both_end_when_one_does(pair: tuple[WorkerRun, list[subprocess.Popen[bytes]]], number: signal.Signals) -> None:
    run, (leader, follower) = pair
    follower.send_signal(number)
    assert leader.wait(60) == PREEMPTED
    assert follower.wait(60) == (-number if number == signal.SIGKILL else PREEMPTED)
    # What the leader saved last is where the next worker begins.
    saved = run.events("checkpoint_saved")[-1]
    assert 0 <= saved.checkpoint_saved.batch < BATCHES
    assert not run.run().end_time.seconds
