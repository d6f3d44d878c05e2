"""How long training waits at the end of an epoch: with asynchronous evaluation, and with evaluation at once.

Real weights (MiniLM with its optimizer, 270 MB), real training steps, a real blob store; the evaluator is one that
answers after a fixed time, so that what is measured is the trainer. Blocked is all time between the last batch of an
epoch and the first of the next.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Row, at_most, faster, report

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import component_pb2, event_pb2, metric_pb2
from tunevane.callback import BestModelCheckpoint, EvaluationCallback
from tunevane.callback.components import component
from tunevane.callback.schedule import Schedule
from tunevane.core.dataset import from_pairs
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import assembly
from tunevane_trainer.training.against import Against
from tunevane_trainer.training.committed import Committed
from tunevane_trainer.training.epochs import AtOnce, EpochEnds, Parts, WhileTraining
from tunevane_trainer.training.measure import Meter
from tunevane_trainer.training.patience import Moment
from tunevane_trainer.training.state import Progress

ANSWER_SECONDS = 3.0
BATCHES = 40
BATCH_SIZE = 16


class Quiet:
    """Takes events and files, and keeps nothing."""

    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self.epoch = 0
        self.step = 0

    def emit(self, *events: event_pb2.Event) -> None:
        """Takes events."""

    def commit(self, events: list[event_pb2.Event]) -> None:
        """Takes events."""

    def log(self, text: str, severity: int = 0) -> None:
        """Takes a line."""


class Slow:
    """An evaluator that needs its time."""

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        """Answers after a while."""
        time.sleep(ANSWER_SECONDS)
        return wire.EvaluationResult(metrics=metric_pb2.MetricSet(values={"mrr@10": moment.epoch / 100}))


def blocked(folder: Path, epochs: int, *, asynchronous: bool) -> tuple[float, float]:
    """Returns the seconds that training waited per epoch, and the seconds of an epoch's batches."""
    store = BlobStore(folder)
    pairs = [(f"question number {n} about things", f"the answer to question {n}") for n in range(BATCHES * BATCH_SIZE)]
    data = datasets.save(from_pairs(pairs), store)
    callback = EvaluationCallback(query_data=data, metrics=("mrr@10",), asynchronous=asynchronous)
    schedule = Schedule([callback, BestModelCheckpoint(monitor="mrr@10")], "minilm", with_val_loss=False)
    spec = run_pb2.RunSpec(
        model=component("minilm", {"max_seq_length": 16}), train_data=data, epochs=epochs, batch_size=BATCH_SIZE
    )
    quiet: Any = Quiet(store)
    trainer = assembly.trainer(spec, store, quiet, schedule, lambda: False)
    message = component_pb2.Component(name="evaluation", attachments={"query_data": data})
    meter = Meter(Slow(), store, run_pb2.Run(name="runs/bench", spec=spec), [(callback, message)])
    parts = Parts(schedule, quiet, Committed(), meter, Against(dict), lambda: False)
    start = Progress(callbacks=schedule.initial())
    ends: EpochEnds = WhileTraining(parts, start, meter.lag) if meter.lag else AtOnce(parts, start)
    waited: list[float] = []
    trained: list[float] = []
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        goes_on = ends.goes_on(epoch)
        assert goes_on
        started = time.perf_counter()
        ended = trainer.train_epoch(epoch)
        stopped = time.perf_counter()
        ends.ended(trainer, epoch, ended)
        waited.append(started - began + time.perf_counter() - stopped)
        trained.append(stopped - started)
    ends.finish()
    ends.close()
    # The first epoch also makes the memory that later ones copy into.
    return sum(waited[1:]) / (epochs - 1), sum(trained[1:]) / (epochs - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="epochs, of which the first is not counted")
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        waiting, batches = blocked(Path(first), epochs, asynchronous=True)
        peer, _ = blocked(Path(second), 2, asynchronous=False)
    rows: list[Row] = [
        at_most("share of an epoch that training is blocked", waiting / (waiting + batches), 0.01),
        faster("seconds that training waits per epoch, against evaluation at once", waiting, peer, 20),
    ]
    report("asynchronous", rows, {"seconds of an epoch's batches": round(batches, 2), "answer after": ANSWER_SECONDS})


if __name__ == "__main__":
    main()
