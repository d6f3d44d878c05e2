"""One worker: claims a run, trains it from its last commit, and hands over the artifact."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import torch

from tunevane import log
from tunevane.api.trainer.v1 import runner_service_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback import EvaluationCallback
from tunevane.callback.components import from_component
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles
from tunevane.errors import CancelledError, StaleWriterError, TunevaneError
from tunevane.nn import checkpoint, device
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import assembly, committed, own, state
from tunevane_trainer.training.against import Against
from tunevane_trainer.training.ending import Ending
from tunevane_trainer.training.epochs import AtOnce, EpochEnds, Parts, WhileTraining, save_within
from tunevane_trainer.training.files import Files
from tunevane_trainer.training.loop import Stopped, Trainer
from tunevane_trainer.training.measure import Meter
from tunevane_trainer.training.patience import Moment, PatientEvaluator
from tunevane_trainer.training.reporter import Reporter, log_event
from tunevane_trainer.training.settings import WorkerConfig

_log = log.get("worker")

PREEMPTED = 75
FAILED = 1


def run(config: WorkerConfig) -> int:
    """Trains a run and returns the process's exit code.

    0 when the run has ended, whatever came of it; 75 when the process was asked to stop and the run goes on
    elsewhere; 1 when the trainer service could not be told how it ended.
    """
    preempted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: preempted.set())
    channel = connect(config.trainer)
    reporter = Reporter(channel, config.run, config.lease_token, config.blob_dir.parent / "outbox")
    try:
        claim = runner_service_pb2_grpc.RunnerServiceStub(channel).ClaimRun(
            runner_service_pb2.ClaimRunRequest(run=config.run, lease_token=config.lease_token)
        )
        reporter.start(claim.next_worker_sequence)
        worker = Worker(config, claim, reporter, BlobClient(channel), preempted)
        try:
            worker.work()
        except (CancelledError, Stopped):
            if not reporter.cancelled.is_set():
                reporter.flush()
                return PREEMPTED
            reporter.log("Cancelled; the last commit is kept", event_pb2.SEVERITY_WARNING)
            reporter.commit([event_pb2.Event(run_ended=event_pb2.RunEnded(cancelled=True))])
        except StaleWriterError:
            raise
        except TunevaneError as error:
            _fail(reporter, str(error))
        except torch.OutOfMemoryError:
            _fail(reporter, "the device ran out of memory; lower batch_size or max_seq_length")
        except Exception as error:
            _log.exception("training failed run=%s", config.run)
            _fail(reporter, f"training failed: {type(error).__name__}: {error}")
        return 0
    except TunevaneError as error:
        _log.error("the worker gives up run=%s: %s", config.run, error)
        return FAILED
    finally:
        reporter.close()


def _fail(reporter: Reporter, reason: str) -> None:
    reporter.log(reason, event_pb2.SEVERITY_ERROR)
    reporter.commit([event_pb2.Event(run_ended=event_pb2.RunEnded(failure_reason=reason[:2000]))])


class Worker:
    """A claimed run."""

    def __init__(
        self,
        config: WorkerConfig,
        claim: runner_service_pb2.ClaimRunResponse,
        reporter: Reporter,
        blobs: BlobClient,
        preempted: threading.Event,
    ) -> None:
        self._run = claim.run
        self._spec = claim.run.spec
        self._claim = claim
        self._reporter = reporter
        self._preempted = preempted
        self._store = BlobStore(config.blob_dir)
        self._files = Files(self._store, blobs, reporter, preempted, self._stopping)
        callbacks = [from_component(each, f"callbacks[{n}]") for n, each in enumerate(self._spec.callbacks)]
        self._schedule = Schedule(callbacks, self._spec.model.name, with_val_loss=self._spec.HasField("eval_data"))
        found = [
            (callback, component)
            for callback, component in zip(callbacks, self._spec.callbacks, strict=True)
            if isinstance(callback, EvaluationCallback)
        ]
        folder = config.evaluator_blob_dir
        neighbour = BlobStore(folder) if folder is not None and folder.is_dir() else None
        evaluator = PatientEvaluator(connect(config.evaluator), self._store, reporter, self._stopping, neighbour)
        self._meter = Meter(evaluator, self._store, self._run, sorted(found, key=lambda pair: pair[0].key))
        self._committed = committed.fold(claim.history)

    def _stopping(self) -> bool:
        return self._preempted.is_set() or self._reporter.cancelled.is_set()

    def work(self) -> None:
        """Measures before, trains, selects, refines, measures after, hands over."""
        self._reporter.log(f"Preparing the run on {device.choose(self._spec.device)}", event_pb2.SEVERITY_DEBUG)
        self._files.fetch(assembly.needed(self._spec))
        trainer = assembly.trainer(self._spec, self._store, self._reporter, self._schedule, self._stopping)
        pretrained = checkpoint.save(trainer.model.state_dict(), self._store)
        self._against = Against(lambda: self._meter.measure(pretrained, Moment(0, 0)).per_query)
        progress = self._resume(trainer)
        self._reporter.epoch, self._reporter.step = progress.epoch, progress.step
        started = event_pb2.RunStarted(
            resumed_after_epoch=progress.epoch,
            epochs=trainer.epochs,
            batches_per_epoch=trainer.batches_per_epoch,
        )
        self._reporter.commit([event_pb2.Event(run_started=started)])
        self._before(trainer, pretrained)
        self._schedule.notify("on_fit_begin")
        try:
            progress = self._epochs(trainer, progress)
        except Exception:
            self._schedule.notify("on_exception")
            raise
        self._schedule.notify("on_fit_end")
        ending = Ending(
            self._run, self._schedule, self._files, self._reporter, self._meter, self._committed, self._against
        )
        ending.finish(trainer, progress)

    def _resume(self, trainer: Trainer) -> state.Progress:
        if not self._claim.HasField("last_checkpoint"):
            return state.Progress(callbacks=self._schedule.initial())
        saved = self._claim.last_checkpoint.checkpoint_saved
        self._files.fetch([*bundles.refs(saved.weights), *bundles.refs(saved.training_state)])
        checkpoint.load(trainer.model, saved.weights, self._store)
        progress = state.load(saved.training_state, trainer.optimizer, self._store)
        for epoch in range(progress.decided + 1, progress.epoch + 1):
            self._files.fetch(bundles.refs(self._committed.weights[epoch]))
        self._reporter.epoch = progress.epoch
        where = f"batch {saved.batch} of epoch {progress.epoch + 1}" if saved.batch else f"epoch {progress.epoch}"
        self._reporter.log(f"Resuming after {where}")
        return progress

    def _before(self, trainer: Trainer, pretrained: blob_pb2.Bundle) -> None:
        # A run that was resumed at an epoch's end has measured this; the model is no more what it was.
        if self._committed.before is not None or not self._schedule.measurers:
            return
        measured = self._meter.measure(pretrained, Moment(0, 0))
        measured.values |= own.values(self._schedule, self._meter.model_name, trainer.model)
        self._against = Against(lambda: measured.per_query)
        warnings = [log_event(warning, event_pb2.SEVERITY_WARNING) for warning in measured.warnings]
        self._files.commit([measured.event(event_pb2.STAGE_BEFORE, self._store), *warnings])
        self._committed.before = measured.values

    def _epochs(self, trainer: Trainer, progress: state.Progress) -> state.Progress:
        """Trains epoch after epoch, until all are trained or a decision ends training."""
        parts = Parts(self._schedule, self._files, self._committed, self._meter, self._against, self._stopping)
        ends: EpochEnds = (
            WhileTraining(parts, progress, self._meter.lag) if self._meter.lag else AtOnce(parts, progress)
        )
        trainer.between = lambda batches_done: self._interval(trainer, ends, batches_done)
        try:
            for epoch in range(progress.epoch + 1, trainer.epochs + 1):
                if not ends.goes_on(epoch):
                    break
                self._reporter.epoch = epoch
                self._schedule.notify("on_epoch_begin")
                # Only the epoch that it goes on with has a beginning already.
                within, progress.within = progress.within, None
                ends.ended(trainer, epoch, trainer.train_epoch(epoch, within))
                self._schedule.notify("on_epoch_end")
                trainer.losses = []
            finished = ends.finish()
            if self._stopping():
                raise Stopped
        except (Stopped, CancelledError):
            if not self._reporter.cancelled.is_set():
                with suppress(CancelledError, Stopped):
                    ends.close()
                save_within(trainer, ends.progress, ends.progress.epoch + 1, self._files)
            raise
        finally:
            ends.close()
        return finished

    def _interval(self, trainer: Trainer, ends: EpochEnds, batches_done: int) -> None:
        due = self._meter.due(batches_done)
        # An epoch that is trained again after a loss has the same metrics at the same steps.
        if due and self._reporter.step not in self._committed.intervals:
            ends.interval(trainer, self._reporter.epoch, due)
