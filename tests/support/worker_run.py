"""A real worker in this thread, on the smallest model, against a real trainer service: for faults inside either."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from support.server import running
from support.small_run import model_folder
from support.trainer_parts import RUN, UID, Listener
from tunevane.api.blob.v1 import blob_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2, runner_service_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1 import component_pb2, event_pb2
from tunevane.callback.components import component
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, from_pairs
from tunevane.nn.models import folder_bundle
from tunevane.rpc.blobs import SERVICE_NAME, BlobServicer
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.runner_servicer import RunnerServicer
from tunevane_trainer.runs import Runs
from tunevane_trainer.store import RunStore
from tunevane_trainer.training import worker
from tunevane_trainer.training.settings import WorkerConfig

BATCHES = 4
"""Batches of an epoch."""


@dataclass
class WorkerRun:
    """One run, and what it takes to work on it."""

    folder: Path
    """Everything is kept below it."""

    callbacks: Sequence[component_pb2.Component] = ()
    """Callbacks of the run."""

    evaluation: Mapping[str, object] | None = None
    """Options of an evaluation; None for none."""

    queries: Dataset | None = None
    """Its queries, searched against themselves."""

    epochs: int = 2
    """Epochs of the run."""

    runs: Runs = field(init=False)
    """The trainer's memory."""

    address: str = field(init=False, default="")
    """Where the trainer answers."""

    @contextmanager
    def serving(self) -> Iterator[WorkerRun]:
        """Serves the run."""
        blobs = BlobStore(self.folder / "trainer" / "blobs")
        pairs = from_pairs([(f"frage {n}", f"question {n}") for n in range(2 * BATCHES)])
        spec = run_pb2.RunSpec(
            model=component("sentence-transformers", {}, {"folder": folder_bundle(model_folder(), blobs)}),
            train_data=datasets.save(pairs, blobs),
            optimizer=component("adamw", {"lr": 1e-3}),
            epochs=self.epochs,
            batch_size=2,
            callbacks=self.callbacks,
            device="cpu",
        )
        if self.evaluation is not None and self.queries is not None:
            data = {"query_data": datasets.save(self.queries, blobs)}
            spec.callbacks.append(component("evaluation", self.evaluation, data))
        store = RunStore(self.folder / "trainer" / "runs.sqlite")
        store.create(run_pb2.Run(name=RUN, uid=UID, spec=spec, state=run_pb2.RUN_STATE_PENDING), "request")
        self.runs = Runs(store, blobs)

        def register(server: grpc.aio.Server) -> list[str]:
            servicer = RunnerServicer(self.runs, Listener(), 30.0)  # type: ignore[arg-type]  # it only listens
            runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
            blob_service_pb2_grpc.add_BlobServiceServicer_to_server(BlobServicer(blobs), server)
            return [runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"].full_name, SERVICE_NAME]

        with running(register) as self.address:
            try:
                yield self
            finally:
                self.runs.close()

    def work(self, token: str = "first", evaluator: str = "127.0.0.1:1") -> int:
        """Runs one worker to its end, in this thread, and returns its exit code."""
        asyncio.run(self.runs.call(lambda: self.runs.store.grant(RUN, token)))
        before = signal.getsignal(signal.SIGTERM)
        try:
            # A disk of its own, so that files really have to be moved.
            return worker.run(WorkerConfig(RUN, token, self.address, evaluator, self.folder / "worker"))
        finally:
            assert threading.current_thread() is threading.main_thread()
            signal.signal(signal.SIGTERM, before)

    def run(self) -> run_pb2.Run:
        """Returns the run as it stands."""
        return asyncio.run(self.runs.call(lambda: self.runs.store.get(RUN)))

    def events(self, kind: str | None = None) -> list[event_pb2.Event]:
        """Lists the events of a kind, or all."""
        found = asyncio.run(self.runs.call(lambda: self.runs.store.events(RUN, 0, 10_000)))
        return [event for event in found if kind in (None, event.WhichOneof("kind"))]

    def log(self) -> list[str]:
        """Lists the lines of the run's log."""
        found = self.runs.ask(lambda: self.runs.store.events(RUN, 0, 10_000, ["log_written"]))
        return [event.log_written.text for event in found]

    def artifact(self) -> str:
        """Returns the digest of what came out, which holds the weights to the bit."""
        run = self.run()
        assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run.failure_reason
        return bundles.digest(run.result.artifact)
