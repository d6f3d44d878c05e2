"""One worker: claims a run, trains it from its last commit, and hands over the artifact."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tunevane import log, plugins
from tunevane.api.trainer.v1 import runner_service_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2, event_pb2
from tunevane.callback import EvaluationCallback
from tunevane.callback.base import Decision
from tunevane.callback.components import from_component, options_of
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles, specs
from tunevane.errors import CancelledError, InvalidRequestError, StaleWriterError, TunevaneError, UnavailableError
from tunevane.nn import checkpoint, device, models
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import batches, state
from tunevane_trainer.training.loop import Stopped, Trainer
from tunevane_trainer.training.losses import DEFAULT_FOR, LossInfo
from tunevane_trainer.training.measure import Evaluator, Measured
from tunevane_trainer.training.optimizers import OPTIMIZERS, AdamW
from tunevane_trainer.training.reporter import GIVE_UP_SECONDS, Reporter, log_event
from tunevane_trainer.training.settings import WorkerConfig

_log = log.get("worker")

PREEMPTED = 75
FAILED = 1

_VERDICTS = {
    "improved": event_pb2.VERDICT_IMPROVED,
    "not_improved": event_pb2.VERDICT_NOT_IMPROVED,
    "stop": event_pb2.VERDICT_STOP,
    "unmeasured": event_pb2.VERDICT_UNSPECIFIED,
}


def run(config: WorkerConfig) -> int:
    """Trains a run and returns the process's exit code.

    0 when the run has ended, whatever came of it; 75 when the process was asked to stop and the run goes on
    elsewhere; 1 when the trainer service could not be told how it ended.
    """
    preempted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: preempted.set())
    channel = connect(config.trainer)
    reporter = Reporter(channel, config.run, config.lease_token)
    try:
        claim = runner_service_pb2_grpc.RunnerServiceStub(channel).ClaimRun(
            runner_service_pb2.ClaimRunRequest(run=config.run, lease_token=config.lease_token)
        )
        reporter.start()
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
        self._blobs = blobs
        self._preempted = preempted
        self._store = BlobStore(config.blob_dir)
        components = [*self._spec.callbacks]
        callbacks = [from_component(each, f"callbacks[{n}]") for n, each in enumerate(components)]
        self._schedule = Schedule(callbacks, self._spec.model.name, with_val_loss=self._spec.HasField("eval_data"))
        found = [
            (callback, component)
            for callback, component in zip(callbacks, components, strict=True)
            if isinstance(callback, EvaluationCallback)
        ]
        self._evaluations = sorted(found, key=lambda pair: pair[0].key)
        self._evaluator = Evaluator(
            connect(config.evaluator), self._store, reporter, self._stopping, self._run.name, self._spec
        )
        self._weights = {
            event.epoch: event.checkpoint_saved.weights
            for event in claim.history
            if event.WhichOneof("kind") == "checkpoint_saved"
        }

    def _stopping(self) -> bool:
        return self._preempted.is_set() or self._reporter.cancelled.is_set()

    def work(self) -> None:
        """Measures before, trains, selects, refines, measures after, hands over."""
        self._reporter.log(f"Preparing the run on {self._device_name()}", event_pb2.SEVERITY_DEBUG)
        self._fetch(self._needed())
        model = models.build(self._spec.model, self._store).to(device.choose(self._spec.device))
        trainer = self._trainer(model)
        pretrained = checkpoint.save(model.state_dict(), self._store)
        progress = self._resume(trainer)
        self._reporter.epoch, self._reporter.step = progress.epoch, progress.step
        started = event_pb2.RunStarted(
            resumed_after_epoch=progress.epoch,
            epochs=trainer.epochs,
            batches_per_epoch=trainer.batches_per_epoch,
        )
        self._reporter.commit([event_pb2.Event(run_started=started)])
        before = self._before(pretrained)
        self._schedule.notify("on_fit_begin")
        try:
            while progress.epoch < trainer.epochs and not progress.stopped:
                progress = self._epoch(trainer, progress)
        except Exception:
            self._schedule.notify("on_exception")
            raise
        self._schedule.notify("on_fit_end")
        self._finish(trainer, progress, before)

    def _device_name(self) -> str:
        return str(device.choose(self._spec.device))

    def _needed(self) -> list[blob_pb2.BlobRef]:
        spec = self._spec
        found = [*bundles.refs(spec.train_data), *bundles.refs(spec.eval_data)]
        for component in (spec.model, *spec.callbacks):
            for name in sorted(component.attachments):
                found.extend(bundles.refs(component.attachments[name]))
        return found

    def _fetch(self, refs: list[blob_pb2.BlobRef]) -> None:
        self._patiently(lambda: self._blobs.fetch(refs, self._store))

    def _push(self, refs: list[blob_pb2.BlobRef]) -> None:
        self._patiently(lambda: self._blobs.push(self._store, refs))

    def _patiently(self, move: Callable[[], object]) -> None:
        """Moves files, again and again while the trainer service is away.

        Raises:
            UnavailableError: It stayed away for as long as events would wait.
            Stopped: The run or the process was asked to stop.
        """
        until = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                move()
            except UnavailableError as error:
                if time.monotonic() > until:
                    raise
                _log.warning("trainer is away, repeating: %s", error)
                if self._preempted.wait(1.0) or self._stopping():
                    raise Stopped from None
            else:
                return

    def _trainer(self, model: object) -> Trainer:
        spec = self._spec
        train_data = datasets.load(spec.train_data, self._store)
        name = spec.loss.name if spec.HasField("loss") else DEFAULT_FOR[train_data.kind]
        info = plugins.load("losses", name)
        assert isinstance(info, LossInfo)
        if train_data.kind not in info.kinds:
            raise InvalidRequestError(
                f"the loss '{name}' learns from {' or '.join(info.kinds)}, and train_data holds {train_data.kind};"
                f" use '{DEFAULT_FOR[train_data.kind]}'"
            )
        if train_data.kind == "items" and any(label is None for label in train_data.labels):
            raise InvalidRequestError("train_data has items without a label; give labels, or pairs")
        settings = AdamW()
        if spec.HasField("optimizer"):
            settings = specs.build(OPTIMIZERS[spec.optimizer.name], options_of(spec.optimizer), "optimizer")
        torch.manual_seed(spec.seed)
        loss = info.build(specs.build(info.options, options_of(spec.loss), "loss"), model)  # type: ignore[arg-type]
        return Trainer(
            model=model,  # type: ignore[arg-type]  # what models.build returned
            loss=loss,
            optimizer=settings.build(model),  # type: ignore[arg-type]
            settings=settings,
            train_data=train_data,
            eval_data=datasets.load(spec.eval_data, self._store) if spec.HasField("eval_data") else None,
            epochs=spec.epochs,
            batch_size=spec.batch_size or batches.DEFAULT_BATCH_SIZE,
            seed=spec.seed,
            bf16=spec.precision == evaluation_pb2.PRECISION_BF16,
            reporter=self._reporter,
            schedule=self._schedule,
            stopping=self._stopping,
        )

    def _resume(self, trainer: Trainer) -> state.Progress:
        if not self._claim.HasField("last_checkpoint"):
            return state.Progress(callbacks=self._schedule.initial())
        saved = self._claim.last_checkpoint.checkpoint_saved
        self._fetch([*bundles.refs(saved.weights), *bundles.refs(saved.training_state)])
        checkpoint.load(trainer.model, saved.weights, self._store)
        progress = state.load(saved.training_state, trainer.optimizer, self._store)
        self._reporter.epoch = progress.epoch
        self._reporter.log(f"Resuming after epoch {progress.epoch}")
        return progress

    def _measure(self, weights: blob_pb2.Bundle) -> Measured:
        if not self._evaluations:
            return Measured()
        return self._evaluator.measure(self._evaluations, weights)

    def _remembered(self, stage: event_pb2.Stage.ValueType) -> dict[str, float] | None:
        for event in self._claim.history:
            if event.WhichOneof("kind") == "metrics_measured" and event.metrics_measured.stage == stage:
                return dict(event.metrics_measured.metrics.values)
        return None

    def _before(self, pretrained: blob_pb2.Bundle) -> dict[str, float]:
        remembered = self._remembered(event_pb2.STAGE_BEFORE)
        if remembered is not None or not self._evaluations:
            return remembered or {}
        measured = self._measure(pretrained)
        self._commit([measured.event(event_pb2.STAGE_BEFORE, self._store)])
        self._warn(measured)
        return measured.values

    def _warn(self, measured: Measured) -> None:
        for warning in measured.warnings:
            self._reporter.log(warning, event_pb2.SEVERITY_WARNING)

    def _epoch(self, trainer: Trainer, progress: state.Progress) -> state.Progress:
        """Trains an epoch, measures, decides, and records it all in one step."""
        number = progress.epoch + 1
        self._reporter.epoch = number
        self._schedule.notify("on_epoch_begin")
        ended = trainer.train_epoch(number)
        weights = checkpoint.save(trainer.model.state_dict(), self._store)
        measured = self._measure(weights)
        values = {"train_loss": ended.train_loss, **measured.values}
        if ended.HasField("val_loss"):
            values["val_loss"] = ended.val_loss
        states, decisions = self._schedule.decide(progress.callbacks, number, values)
        stopped = any(decision.verdict == "stop" for decision in decisions)
        after = state.Progress(number, self._reporter.step, stopped, states)
        events = [event_pb2.Event(epoch_ended=ended)]
        if measured.values:
            events.append(measured.event(event_pb2.STAGE_EPOCH, self._store))
        events.extend(_decision_event(decision) for decision in decisions)
        events.extend(log_event(warning, event_pb2.SEVERITY_WARNING) for warning in measured.warnings)
        events.extend(log_event(decision.reason) for decision in decisions if decision.reason)
        saved = event_pb2.CheckpointSaved(
            weights=weights, training_state=state.save(after, trainer.optimizer, self._store)
        )
        events.append(event_pb2.Event(checkpoint_saved=saved))
        self._commit(events)
        self._weights[number] = weights
        self._schedule.notify("on_epoch_end")
        return after

    def _commit(self, events: list[event_pb2.Event]) -> None:
        """Uploads the files that events name, then appends the events: all or none."""
        refs: list[blob_pb2.BlobRef] = []
        for event in events:
            if event.WhichOneof("kind") == "checkpoint_saved":
                saved = event.checkpoint_saved
                refs += [*bundles.refs(saved.weights), *bundles.refs(saved.training_state)]
            elif event.WhichOneof("kind") == "metrics_measured" and event.metrics_measured.HasField("examples"):
                refs.append(event.metrics_measured.examples)
            elif event.WhichOneof("kind") == "run_ended":
                refs += bundles.refs(event.run_ended.artifact)
        self._push(refs)
        self._reporter.commit(events)

    def _finish(self, trainer: Trainer, progress: state.Progress, before: dict[str, float]) -> None:
        """Selects, refines, measures what the user gets, and hands it over."""
        epoch, weights = self._select(trainer, progress)
        weights = self._refine(trainer, weights)
        measured = self._measure(weights)
        if self._evaluations:
            self._commit([measured.event(event_pb2.STAGE_AFTER, self._store)])
        seconds = int(time.time() - self._run.create_time.seconds)
        self._reporter.log("Done ✨")
        days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
        took = f"Finetuning took {days} days, {hours} hours {minutes} minutes and {seconds % 60} seconds"
        self._reporter.log(took, event_pb2.SEVERITY_DEBUG)
        for name, value in measured.values.items():
            earlier = f"{before[name]:.5f}" if name in before else "unknown"
            self._reporter.log(f"Metric: '{name}' before fine-tuning:  {earlier} after fine-tuning: {value:.5f}")
        self._reporter.log("Building the artifact ...")
        artifact = self._artifact(trainer)
        self._reporter.log("Pushing artifact ...")
        self._push(bundles.refs(artifact))
        self._reporter.log(f"Artifact pushed under ID '{bundles.digest(artifact)[:32]}'")
        self._reporter.log(f"Artifact size is {bundles.total_bytes(artifact) / 1e6:.3f} MB", event_pb2.SEVERITY_DEBUG)
        ended = event_pb2.RunEnded(artifact=artifact, artifact_epoch=epoch)
        self._commit([log_event("Finished 🚀"), event_pb2.Event(run_ended=ended)])

    def _select(self, trainer: Trainer, progress: state.Progress) -> tuple[int, blob_pb2.Bundle]:
        """Puts the best epoch's weights into the model, or leaves the last; returns which and what."""
        best = self._schedule.best_epoch(progress.callbacks)
        if best == 0:
            self._reporter.log(
                "No epoch qualified as the best model, so the last weights are kept", event_pb2.SEVERITY_WARNING
            )
        epoch = best or progress.epoch
        weights = self._weights[epoch]
        if epoch != progress.epoch:
            self._fetch(bundles.refs(weights))
            checkpoint.load(trainer.model, weights, self._store)
        if best:
            self._reporter.log(f"The artifact holds the weights of epoch {best}, the best of {progress.epoch}")
        return epoch, weights

    def _refine(self, trainer: Trainer, weights: blob_pb2.Bundle) -> blob_pb2.Bundle:
        """Mixes the pre-trained weights back in, where a callback asks for it."""
        refiner = self._schedule.refiner
        if refiner is None:
            return weights
        # Built anew: nothing keeps the blobs of the pre-trained weights through a long run.
        pretrained = models.build(self._spec.model, self._store).state_dict()
        mixed = checkpoint.blend(pretrained, checkpoint.read(weights, self._store), refiner.alpha)
        trainer.model.load_state_dict(mixed)
        self._reporter.log(f"Mixed pre-trained and fine-tuned weights with alpha {refiner.alpha:g}")
        return checkpoint.save(trainer.model.state_dict(), self._store)

    def _artifact(self, trainer: Trainer) -> blob_pb2.Bundle:
        """Saves the model as a folder that sentence-transformers loads, and stores its files."""
        with tempfile.TemporaryDirectory(prefix="tunevane-artifact-") as scratch:
            trainer.model.save(scratch, create_model_card=False)
            return models.folder_bundle(Path(scratch), self._store)


def _decision_event(decision: Decision) -> event_pb2.Event:
    made = event_pb2.DecisionMade(
        callback=decision.callback,
        verdict=_VERDICTS[decision.verdict],
        reason=decision.reason,
        monitor=decision.monitor,
        value=decision.value,
        patience_left=decision.patience_left,
    )
    return event_pb2.Event(decision_made=made)
