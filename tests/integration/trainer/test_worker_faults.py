"""What a worker survives: a signal to stop at any batch, and full disks, its own and its trainer's."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import evaluator_service
from support.trainer_parts import RUN
from support.worker_run import BATCHES, WorkerRun
from tunevane.api.trainer.v1 import run_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import StorageFullError
from tunevane.local.supervisor import free_ports
from tunevane.storage.blobs import BlobStore
from tunevane.storage.disk import Disk
from tunevane_evaluator.config import EvaluatorConfig
from tunevane_trainer.store import RunStore
from tunevane_trainer.training import worker
from tunevane_trainer.training.batches import Batch
from tunevane_trainer.training.loop import Trainer


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerRun]:
    with WorkerRun(tmp_path_factory.mktemp("undisturbed")).serving() as run:
        assert run.work() == 0
        yield run


def measured(folder: Path, **options: object) -> WorkerRun:
    """Makes a run with an evaluation, whose epochs may be measured while the next one trains."""
    queries = Dataset("items", tuple(Item(f"q{n}", f"frage {n}", label=str(n % 2)) for n in range(6)))
    return WorkerRun(
        folder, evaluation={"asynchronous": True, "limit": 3, "exclude_self": False} | options, queries=queries
    )


def terminate_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Sends SIGTERM to this process in the midst of an optimizer step, counted from 1."""
    step, taken = Trainer._step, [0]

    def counted(trainer: Trainer, batch: Batch) -> float:
        taken[0] += 1
        if taken[0] == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "_step", counted)


@pytest.mark.parametrize("steps", [1, BATCHES - 1, BATCHES, BATCHES + 2])
def test_sigterm_saves_between_two_batches_and_another_worker_goes_on_there(
    tmp_path: Path, undisturbed: WorkerRun, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    with WorkerRun(tmp_path).serving() as run:
        with monkeypatch.context() as patch:
            terminate_after(patch, steps)
            assert run.work() == worker.PREEMPTED
        saved = [(event.epoch, event.checkpoint_saved.batch) for event in run.events("checkpoint_saved")]
        epoch, batch = divmod(steps, BATCHES)
        # The last batch of an epoch is followed by its end.
        assert saved[-1] == ((epoch + 1, batch) if batch else (epoch, 0))
        taken: list[int] = []
        step = Trainer._step

        def counted(trainer: Trainer, each: Batch) -> float:
            taken.append(trainer.reporter.step)
            return step(trainer, each)

        monkeypatch.setattr(Trainer, "_step", counted)
        assert run.work("second") == 0
        assert taken == list(range(steps, 2 * BATCHES))
        assert run.artifact() == undisturbed.artifact()
        for one, other in zip(run.events("epoch_ended"), undisturbed.events("epoch_ended"), strict=True):
            assert one.epoch_ended.train_loss == other.epoch_ended.train_loss
        # Nothing that only a running run needs is kept after its end.
        artifact = {file.blob.blake3 for file in run.run().result.artifact.files}
        spec = {ref for ref in run.runs.ask(run.runs.store.pinned) if ref not in artifact}
        assert spec <= {each.blake3 for bundle in _bundles(run.run()) for each in bundle}


def _bundles(run: run_pb2.Run) -> Iterator[list[Any]]:  # Any: references of blobs
    from tunevane.core import bundles
    from tunevane_trainer import history

    yield from (bundles.refs(bundle) for bundle in history.spec_bundles(run.spec))


class FullDisk(Disk):
    """A disk that takes so many bytes."""

    def __init__(self, left: int, refusals: int = 1_000_000) -> None:
        self.left = left
        self.refusals = refusals

    def write(self, handle: int, data: memoryview) -> int:
        if self.left < len(data) and self.refusals > 0:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(data)
        return super().write(handle, data)


def test_a_full_disk_of_the_worker_fails_the_run_with_path_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(4_000_000)
    monkeypatch.setattr(worker, "BlobStore", lambda root: BlobStore(root, disk))
    with WorkerRun(tmp_path).serving() as run:
        assert run.work() == 0
        ended = run.run()
        assert ended.state == run_pb2.RUN_STATE_FAILED
        assert "no space left for " in ended.failure_reason
        assert str(tmp_path / "worker") in ended.failure_reason
    # Nothing is half-written: what is there is whole, and no file is left over.
    store = BlobStore(tmp_path / "worker")
    assert not list((tmp_path / "worker" / "partial").iterdir())
    assert all(store._place(digest).stat().st_size == size for digest, size, _ in store.digests())


def test_a_full_disk_of_the_trainer_is_waited_for(
    tmp_path: Path, undisturbed: WorkerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerRun(tmp_path).serving() as run:
        disk = FullDisk(0, refusals=3)
        run.runs.blobs.disk = disk
        refused = [2]
        append = RunStore.append

        def full(store: RunStore, name: str, events: Any, **options: Any) -> Any:
            if events and refused[0] and any(event.HasField("epoch_ended") for event in events):
                refused[0] -= 1
                raise StorageFullError("the disk that holds runs.sqlite is full; free some space")
            return append(store, name, events, **options)

        monkeypatch.setattr(RunStore, "append", full)
        assert run.work() == 0
        assert (disk.refusals, refused) == (0, [0])
        assert run.artifact() == undisturbed.artifact()
        assert [event.epoch for event in run.events("epoch_ended")] == [1, 2]


def test_two_workers_of_one_run_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerRun(tmp_path, epochs=1).serving() as run:
        step, taken = Trainer._step, [0]

        def replaced(trainer: Trainer, batch: Batch) -> float:
            taken[0] += 1
            if taken[0] == 2:
                run.runs.ask(lambda: run.runs.store.grant(RUN, "newer"))
            return step(trainer, batch)

        monkeypatch.setattr(Trainer, "_step", replaced)
        assert run.work("older") == worker.FAILED
        assert run.events("epoch_ended") == []
        assert run.run().state == run_pb2.RUN_STATE_RUNNING


def test_an_evaluator_that_stays_away_fails_the_run_with_a_sentence(tmp_path: Path) -> None:
    with measured(tmp_path, timeout_seconds=0.5).serving() as run:
        assert run.work() == 0
        ended = run.run()
        assert ended.state == run_pb2.RUN_STATE_FAILED
        assert ended.failure_reason.startswith(
            "the evaluation 'sentence-transformers' did not succeed within 0.5 seconds: "
        )


def test_an_evaluator_that_comes_back_after_minutes_is_waited_for(tmp_path: Path) -> None:
    """The minutes are those that it takes to see, in the log, that the run waits."""
    with measured(tmp_path, timeout_seconds=600).serving() as run:
        port = free_ports(1)[0]
        config = EvaluatorConfig(port=port, state_dir=tmp_path / "evaluator", drain_seconds=1)
        ended = threading.Event()

        def come_back() -> None:
            while not any("Waiting for the evaluator" in line for line in run.log()):
                if ended.wait(0.1):
                    return
            with evaluator_service.running(config, BlobStore(tmp_path / "unused")):
                ended.wait(120)

        thread = threading.Thread(target=come_back)
        thread.start()
        try:
            assert run.work(evaluator=f"127.0.0.1:{port}") == 0
        finally:
            ended.set()
            thread.join()
        assert run.run().state == run_pb2.RUN_STATE_SUCCEEDED, run.run().failure_reason
        # Before, two epochs, after; what it missed is not lost.
        assert len(run.events("metrics_measured")) == 4
