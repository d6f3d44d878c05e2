"""Our evaluator and our decisions in a training loop that is not ours.

    steering = tunevane.steer(model, callbacks=[EvaluationCallback(...), BestModelCheckpoint(...), EarlyStopping(...)])
    for epoch in range(10):
        loss = train_one_epoch(model)
        if steering.epoch_ended(train_loss=loss).stop:
            break
    outcome = steering.end()  # the best weights are in the model again

The schedule is that of a run: measure, decide, record at each epoch end; select, refine, measure "after" at the end.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback import EvaluationCallback, TrainingCheckpoint
from tunevane.callback.base import Callback, Decision, Measurements
from tunevane.callback.components import to_component
from tunevane.callback.events import decision_event
from tunevane.callback.schedule import Schedule, States
from tunevane.client.evaluator import EvaluatorClient
from tunevane.client.publisher import Publisher
from tunevane.core import bundles, names, specs
from tunevane.errors import InvalidRequestError, PreconditionError, Problem
from tunevane.evaluation import evaluator_target
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import sweep
from tunevane_trainer.training.background import Background
from tunevane_trainer.training.lag import Decided
from tunevane_trainer.training.measure import Measured, Meter
from tunevane_trainer.training.patience import Moment

if TYPE_CHECKING:
    from tunevane.nn.portable import Portable

_log = log.get("steering")

TRACKER_VARIABLE = "TUNEVANE_TRACKER_TARGET"


@dataclass(frozen=True)
class Verdict:
    """What is known after an epoch."""

    epoch: int
    """The last epoch that has been decided: the one that ended, or an earlier one with asynchronous evaluation."""

    stop: bool
    """Whether training is over."""

    metrics: Mapping[str, float]
    """Losses and retrieval metrics of that epoch, by full name."""

    decisions: tuple[Decision, ...]
    """What the callbacks concluded from them."""


@dataclass(frozen=True)
class Outcome:
    """What came of a steered training."""

    name: str
    """Name under which the tracker knows it."""

    epoch: int
    """The epoch whose weights are in the model now."""

    before: Mapping[str, float]
    """Metrics of the model before training."""

    after: Mapping[str, float]
    """Metrics of the model as it is now."""

    epochs: list[Mapping[str, float]] = field(repr=False)
    """Losses and metrics of every decided epoch, in order."""

    decisions: list[Decision] = field(repr=False)
    """Everything that was concluded, in order."""


class Steering:
    """Measures, decides and records for one training; used by one thread."""

    def __init__(
        self,
        model: Portable,
        callbacks: Iterable[Callback],
        *,
        name: str,
        model_name: str,
        seed: int,
        planned_epochs: int,
        with_val_loss: bool,
        evaluator: str,
        tracker: str | None,
    ) -> None:
        """Checks everything, reads the data, and measures nothing yet; see `steer`.

        Raises:
            InvalidRequestError: Lists everything that cannot work.

        """
        given = list(callbacks)
        found = [problem for n, each in enumerate(given) for problem in specs.check(each, f"callbacks[{n}]")]
        word = "belongs to tunevane's own training; your loop keeps checkpoints its own way"
        found += [
            Problem(f"callbacks[{n}]", word) for n, each in enumerate(given) if isinstance(each, TrainingCheckpoint)
        ]
        if found:
            raise InvalidRequestError(found)
        self.name = name
        """Name under which the tracker knows it."""
        self.before: Mapping[str, float] = {}
        """Metrics of the model before training."""
        self._model = model
        self._schedule = Schedule(given, model_name, with_val_loss=with_val_loss)
        self._with_val_loss = with_val_loss
        scratch = Path(tempfile.mkdtemp(prefix="tunevane-steering-"))
        # Also where a loop fails and nobody calls `close`.
        self._clean_up = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self._store = BlobStore(scratch)
        component = model.component(self._store)
        component.name, self._built = model_name, component.name
        self._run = run_pb2.Run(name=f"runs/{name}", spec=run_pb2.RunSpec(model=component, seed=seed))
        messages = [to_component(each, self._attach) for each in given]
        self._publisher = None
        if tracker is not None:
            config = {
                "name": name,
                "model": model_name,
                "epochs": planned_epochs,
                "seed": seed,
                "callbacks": [
                    {"name": each.name, "options": specs.options_of(each, each.attachments)} for each in given
                ],
            }
            self._publisher = Publisher(tracker, self._run.name, config, on_notice=_log.info)
        client = EvaluatorClient(evaluator, self._store)
        evaluations = sorted(
            (
                (each, message)
                for each, message in zip(given, messages, strict=True)
                if isinstance(each, EvaluationCallback)
            ),
            key=lambda pair: pair[0].key,
        )
        self._meter = Meter(_Asking(client, self._built), self._store, self._run, evaluations)
        self._planned_epochs = planned_epochs
        self._states: dict[int, States] = {0: self._schedule.initial()}
        self._weights: dict[int, blob_pb2.Bundle] = {}
        self._losses: dict[int, dict[str, float]] = {}
        self._steps: dict[int, int] = {}
        self._measured: dict[int, Mapping[str, float]] = {}
        self._decisions: dict[int, tuple[Decision, ...]] = {}
        self._trained = 0
        self._decided = Decided()
        self._background: Background[Measured] | None = None
        if self._meter.lag:
            self._background = Background(
                self._meter.lag, self._measure, self._decide, self._decided, lambda: self._closed
            )
        self._closed = False

    def _attach(self, data: object, option: str) -> blob_pb2.Bundle:
        return datasets.write(data, self._store, is_labeled=True)

    def begin(self) -> None:
        """Measures the model before training; called once, by `steer`."""
        # Also without evaluations: what WiSE-FT mixes back in.
        self._weights[0] = self._save()
        started = event_pb2.RunStarted(epochs=self._planned_epochs)
        self._emit(event_pb2.Event(run_started=started), Moment(0, 0))
        measured = self._meter.measure(self._weights[0], Moment(0, 0))
        self._record(measured, event_pb2.STAGE_BEFORE, Moment(0, 0))
        self.before = measured.values

    def step_reported(self, *, epoch: int, batch: int, step: int, loss: float, learning_rate: float = 0.0) -> None:
        """Tells the tracker how training goes within an epoch, and measures what is due; decides nothing.

        Args:
            epoch: Epoch under way, from 1.
            batch: Batches done in it.
            step: Optimizer steps taken since the beginning.
            loss: Mean training loss since the last report.
            learning_rate: Of the last batch.

        """
        told = event_pb2.StepReported(batch=batch, loss=loss, learning_rate=learning_rate)
        moment = Moment(epoch, step)
        self._emit(event_pb2.Event(step_reported=told), moment)
        due = self._meter.due(batch)
        if due:
            weights = self._save()
            self._record(self._meter.measure(weights, moment, due), event_pb2.STAGE_INTERVAL, moment)
            self._forget(weights)

    def epoch_ended(
        self, *, train_loss: float, val_loss: float | None = None, step: int = 0, batches: int = 0
    ) -> Verdict:
        """Measures the weights at hand, and decides; with asynchronous evaluation, decides what is due.

        Args:
            train_loss: Mean training loss of the epoch.
            val_loss: Validation loss, where there is one.
            step: Optimizer steps taken since the beginning.
            batches: Batches of the epoch.

        Raises:
            EvaluationFailedError: An evaluation failed, and its callback says that training fails then.
            InvalidRequestError: There is a validation loss although none was announced, or the other way round.
            UnavailableError: The evaluator stayed away for longer than the callback allows.

        """
        if (val_loss is not None) != self._with_val_loss:
            word = "was not announced; pass with_val_loss=True to steer" if val_loss is not None else "is missing"
            raise InvalidRequestError([Problem("val_loss", word)])
        self._open()
        self._trained += 1
        epoch = self._trained
        self._losses[epoch] = {"train_loss": train_loss} | ({} if val_loss is None else {"val_loss": val_loss})
        self._steps[epoch] = step
        ended = event_pb2.EpochEnded(train_loss=train_loss, val_loss=val_loss, batches=batches)
        weights = self._save()
        self._weights[epoch] = weights
        self._emit(event_pb2.Event(epoch_ended=ended), Moment(epoch, step))
        if self._background is None:
            stopped = self._decide(epoch, self._measure(epoch, weights))
            self._decided = Decided(epoch, stopped)
            return self._verdict(epoch, stop=stopped)
        self._background.submit(epoch, lambda: weights)
        goes_on = self._background.wait(epoch + 1)
        # What came early is not told early: what is known depends on the lag alone.
        known = min(self._background.decided.epoch, max(epoch - self._meter.lag, 0))
        return self._verdict(known, stop=not goes_on)

    def _verdict(self, epoch: int, *, stop: bool) -> Verdict:
        return Verdict(epoch, stop, self._measured.get(epoch, {}), self._decisions.get(epoch, ()))

    def _save(self) -> blob_pb2.Bundle:
        from tunevane.nn import checkpoint

        return checkpoint.save(self._model.state_dict(), self._store)

    def _measure(self, epoch: int, weights: blob_pb2.Bundle) -> Measured:
        return self._meter.measure(weights, Moment(epoch, self._steps[epoch]))

    def _decide(self, epoch: int, measured: Measured) -> bool:
        values = {**self._losses[epoch], **measured.values}
        self._states[epoch], decisions = self._schedule.decide(
            self._states[epoch - 1], epoch, Measurements(values, measured.per_query)
        )
        self._measured[epoch], self._decisions[epoch] = values, tuple(decisions)
        moment = Moment(epoch, self._steps[epoch])
        self._record(measured, event_pb2.STAGE_EPOCH, moment)
        for decision in decisions:
            self._emit(decision_event(decision), moment)
            if decision.reason:
                _log.info(decision.reason)
        kept = self._schedule.kept_epochs(self._states[epoch])
        for earlier in [n for n in self._weights if 0 < n < epoch and n not in kept]:
            self._forget(self._weights.pop(earlier))
        return any(decision.verdict == "stop" for decision in decisions)

    def _forget(self, weights: blob_pb2.Bundle) -> None:
        """Removes the files of weights that no others share."""
        kept = {ref.blake3 for each in self._weights.values() for ref in bundles.refs(each)}
        for ref in bundles.refs(weights):
            if ref.blake3 not in kept:
                self._store.delete(ref.blake3)

    def _record(self, measured: Measured, stage: event_pb2.Stage.ValueType, moment: Moment) -> None:
        if measured.values:
            event = measured.event(stage, self._store)
            # The tracker has no files of ours.
            event.metrics_measured.ClearField("examples")
            self._emit(event, moment)
        for warning in measured.warnings:
            _log.warning(warning)

    def _emit(self, event: event_pb2.Event, moment: Moment) -> None:
        if self._publisher is not None:
            self._publisher.emit(event, epoch=moment.epoch, step=moment.step)

    def end(self) -> Outcome:
        """Puts the best weights into the model, refines them, measures them, and ends.

        Without `BestModelCheckpoint`, or where no epoch qualified, the weights are those of the last epoch that was
        decided.
        """
        self._open()
        if self._background is not None:
            self._background.drain(self._trained)
            self._decided = self._background.decided
        last = self._decided.epoch
        epoch = self._schedule.best_epoch(self._states[last]) or last
        if epoch != self._trained:
            self._load(self._weights[epoch])
        weights = self._refine(self._weights[epoch])
        moment = Moment(last, self._steps.get(last, 0))
        measured = self._meter.measure(weights, moment)
        self._record(measured, event_pb2.STAGE_AFTER, moment)
        self._emit(event_pb2.Event(run_ended=event_pb2.RunEnded(artifact_epoch=epoch)), moment)
        self.close()
        decided = range(1, last + 1)
        return Outcome(
            name=self.name,
            epoch=epoch,
            before=self.before,
            after=measured.values,
            epochs=[self._measured[n] for n in decided],
            decisions=[decision for n in decided for decision in self._decisions[n]],
        )

    def _load(self, weights: blob_pb2.Bundle) -> None:
        from tunevane.nn import checkpoint

        self._model.load_state_dict(checkpoint.read(weights, self._store))

    def _refine(self, weights: blob_pb2.Bundle) -> blob_pb2.Bundle:
        from tunevane.nn import checkpoint
        from tunevane.nn.blend import blend

        refiner = self._schedule.refiner
        if refiner is None:
            return weights
        alpha = refiner.alpha
        if alpha == "sweep":
            moment = Moment(self._decided.epoch, self._steps.get(self._decided.epoch, 0))
            alpha = sweep.best_alpha(self._meter, self._schedule, weights, self._weights[0], moment).alpha
        mixed = blend(checkpoint.read(self._weights[0], self._store), checkpoint.read(weights, self._store), alpha)
        self._model.load_state_dict(mixed)
        return self._save()

    def failed(self, reason: str) -> None:
        """Tells the tracker that training failed, and ends."""
        if not self._closed:
            self._emit(event_pb2.Event(run_ended=event_pb2.RunEnded(failure_reason=reason[:2000])), Moment(0, 0))
            self.close()

    def close(self) -> None:
        """Ends what is under way; the model stays as it is."""
        if self._closed:
            return
        self._closed = True
        if self._background is not None:
            self._background.close()
        if self._publisher is not None:
            self._publisher.close()
        self._clean_up()

    def _open(self) -> None:
        if self._closed:
            raise PreconditionError("this steering has ended; call steer again for another training")

    def __enter__(self) -> Steering:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.failed(f"{type(error).__name__}: {error}")
        self.close()


class _Asking:
    """The evaluator as a meter asks it."""

    def __init__(self, client: EvaluatorClient, built: str) -> None:
        self._client = client
        self._built = built

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        # Metrics carry the name that people gave; what is built is a folder.
        request.model.name = self._built
        result = self._client.evaluate(request, timeout_seconds=timeout_seconds, is_over=moment.not_wanted)
        self._client.read_all(result)
        return result


def steer(
    model: object,
    callbacks: Iterable[Callback],
    *,
    tokenizer: object = None,
    name: str | None = None,
    model_name: str = "model",
    seed: int = 0,
    planned_epochs: int = 0,
    with_val_loss: bool = False,
    pooling: str = "mean",
    normalize: bool = True,
    evaluator: str | None = None,
    tracker: str | None = None,
    publish: bool = True,
) -> Steering:
    """Lets retrieval metrics steer a training loop of your own, and measures the model as it is now.

    Args:
        model: A `SentenceTransformer`, or a text model of transformers.
        callbacks: As for `tunevane.fit`, in any order.
        tokenizer: Of a transformers model.
        name: Name under which the tracker shows it; None makes one up.
        model_name: What metric names begin with.
        seed: Of query samples and examples.
        planned_epochs: For progress displays; 0 where it is not known.
        with_val_loss: Whether `epoch_ended` will get a validation loss.
        pooling: How token vectors become one, for transformers models: `mean`, `cls`, `max` or `lasttoken`.
        normalize: Whether vectors of transformers models get length 1.
        evaluator: Address; None takes `TUNEVANE_EVALUATOR_TARGET`, and where that is not set the services of this
            machine, which are started if they are not running.
        tracker: Address; None likewise, with `TUNEVANE_TRACKER_TARGET`.
        publish: Whether the tracker hears of it at all.

    Raises:
        InvalidRequestError: Lists everything that cannot work.
        DataFormatError: A data file cannot be read; names file, line and reason.
        EvaluationFailedError: An evaluation failed, and its callback says that training fails then.
        UnavailableError: The evaluator stayed away for longer than the callback allows.

    """
    from tunevane.nn.portable import portable

    if name is not None:
        names.check(name, "name")
    steering = Steering(
        portable(model, tokenizer, pooling=pooling, normalize=normalize),
        callbacks,
        name=name if name is not None else names.suggest(random.Random()),
        model_name=model_name,
        seed=seed,
        planned_epochs=planned_epochs,
        with_val_loss=with_val_loss,
        evaluator=evaluator_target(evaluator),
        tracker=tracker_target(tracker) if publish else None,
    )
    try:
        steering.begin()
    except BaseException as error:
        steering.failed(f"{type(error).__name__}: {error}")
        raise
    return steering


def tracker_target(target: str | None) -> str:
    """Returns the address of the tracker to use; see `steer`."""
    chosen = target or os.environ.get(TRACKER_VARIABLE)
    if chosen:
        return chosen
    from tunevane import local

    return local.ensure().tracker
