"""The moments that callbacks hear of, in a real worker: the specified order, also after an early stop or an error."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from support.server import running
from support.trainer_parts import RUN, UID, Listener
from tunevane import plugins
from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2, runner_service_pb2, runner_service_pb2_grpc
from tunevane.callback.components import component
from tunevane.core.dataset import from_pairs
from tunevane.rpc.blobs import SERVICE_NAME, BlobClient, BlobServicer
from tunevane.rpc.channel import connect
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.runner_servicer import RunnerServicer
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore
from tunevane_trainer.training.loop import Trainer
from tunevane_trainer.training.reporter import Reporter
from tunevane_trainer.training.settings import WorkerConfig
from tunevane_trainer.training.worker import Worker

CASE = json.loads((Path(__file__).parents[2] / "unit" / "core" / "cases.json").read_text())["event_order"]
EPOCH = CASE["calls"][1:13]
"""The calls of one epoch, with validation data."""

PLUGIN = '''
"""A callback that writes down what it hears."""
from dataclasses import dataclass
from typing import ClassVar
from tunevane.callback import Callback

HEARD = []

@dataclass(frozen=True)
class Listening(Callback):
    name: ClassVar[str] = "listening"

    def notify(self, notice):
        HEARD.append(notice)
'''


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Installs a package with a callback, and gives what the callback hears."""
    package = tmp_path / "package"
    (package / "listening-1.0.dist-info").mkdir(parents=True)
    (package / "listening-1.0.dist-info" / "METADATA").write_text("Name: listening\nVersion: 1.0\n")
    (package / "listening-1.0.dist-info" / "entry_points.txt").write_text(
        "[tunevane.callbacks]\nlistening = listening_callback:Listening\n"
    )
    (package / "listening_callback.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(package))
    plugins._registered.cache_clear()
    import listening_callback  # type: ignore[import-not-found]  # it was written above

    yield listening_callback.HEARD
    monkeypatch.undo()
    sys.modules.pop("listening_callback")
    plugins._registered.cache_clear()


def train(folder: Path, *, stopping: bool = False, validated: bool = True) -> None:
    """Runs a worker in this thread, against a real trainer service, on two batches an epoch."""
    blobs = BlobStore(folder / "blobs")
    pairs = from_pairs([(f"frage {n}", f"question {n}") for n in range(4)])
    spec = run_pb2.RunSpec(
        model=component("minilm", {"layers": 1, "max_seq_length": 8}),
        train_data=datasets.save(pairs, blobs),
        epochs=CASE["epochs"],
        batch_size=2,
        callbacks=[component("listening", {})],
        device="cpu",
    )
    if validated:
        spec.eval_data.CopyFrom(datasets.save(from_pairs([("ja", "yes"), ("nein", "no")]), blobs))
    if stopping:
        spec.callbacks.append(component("early-stopping", {"monitor": "loss", "patience": 1, "baseline": -1.0}))
    store = RunStore(folder / "runs.sqlite")
    store.create(run_pb2.Run(name=RUN, uid=UID, spec=spec, state=run_pb2.RUN_STATE_RUNNING), "request")
    runs = Runs(store, blobs)

    def register(server: grpc.aio.Server) -> list[str]:
        servicer = RunnerServicer(runs, Listener(), 30.0)  # type: ignore[arg-type]  # it only listens
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(blobs), server)
        return [runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"].full_name, SERVICE_NAME]

    with running(register) as address, connect(address) as channel:
        asyncio.run(runs.call(lambda: store.grant(RUN, "secret")))
        claim = runner_service_pb2_grpc.RunnerServiceStub(channel).ClaimRun(
            runner_service_pb2.ClaimRunRequest(run=RUN, lease_token="secret")
        )
        config = WorkerConfig(RUN, "secret", address, "127.0.0.1:1", folder / "blobs")
        reporter = Reporter(channel, RUN, "secret", folder / "outbox")
        reporter.start(claim.next_worker_sequence)
        try:
            Worker(config, claim, reporter, BlobClient(channel), threading.Event()).work()
        finally:
            reporter.close()
            runs.close()


def test_the_specified_calls_in_the_specified_order(heard: list[str], tmp_path: Path) -> None:
    train(tmp_path)
    assert heard == CASE["calls"]


def test_without_validation_data_there_are_no_calls_about_it(heard: list[str], tmp_path: Path) -> None:
    train(tmp_path, validated=False)
    assert heard == [call for call in CASE["calls"] if not call.startswith("on_val")]


def test_an_early_stop_ends_with_fit_end(heard: list[str], tmp_path: Path) -> None:
    train(tmp_path, stopping=True)
    assert heard == ["on_fit_begin", *EPOCH, "on_fit_end"]


def test_an_error_ends_with_exception_and_not_with_fit_end(
    heard: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trainer: Trainer, batch: object) -> float:
        raise RuntimeError("no more electricity")

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(RuntimeError, match="electricity"):
        train(tmp_path)
    assert heard == ["on_fit_begin", "on_epoch_begin", "on_train_epoch_begin", "on_train_batch_begin", "on_exception"]
