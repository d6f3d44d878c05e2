"""The end of an epoch: measure, decide, record; at once, or while the next epochs train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback.base import Measurements
from tunevane.callback.events import decision_event
from tunevane.callback.schedule import Schedule, States
from tunevane.nn import checkpoint
from tunevane.nn.snapshot import Snapshots
from tunevane_trainer.training import own, state
from tunevane_trainer.training.against import Against
from tunevane_trainer.training.background import Background
from tunevane_trainer.training.committed import Committed, losses
from tunevane_trainer.training.files import Files
from tunevane_trainer.training.lag import Decided
from tunevane_trainer.training.loop import Trainer
from tunevane_trainer.training.measure import Evaluation, Measured, Meter
from tunevane_trainer.training.patience import Moment
from tunevane_trainer.training.reporter import log_event
from tunevane_trainer.training.state import Progress, Within


@dataclass(frozen=True)
class Parts:
    """What the ends of epochs need of a run."""

    schedule: Schedule
    """The callbacks."""

    files: Files
    """Where events and files go."""

    committed: Committed
    """What the run's history holds; the weights of new epochs are added."""

    meter: Meter
    """Measures weights with the run's evaluations."""

    against: Against
    """What was measured before training, by query."""

    stopping: Callable[[], bool]
    """Tells whether the run is to stop."""


class EpochEnds(Protocol):
    """What the training loop asks of the ends of epochs."""

    @property
    def progress(self) -> Progress:
        """Where the run stands after the last epoch that was trained."""

    def goes_on(self, epoch: int) -> bool:
        """Tells whether an epoch is trained; may wait for decisions that are applied before it."""

    def ended(self, trainer: Trainer, epoch: int, ended: event_pb2.EpochEnded) -> None:
        """Takes an epoch that was trained."""

    def interval(self, trainer: Trainer, epoch: int, due: Sequence[Evaluation]) -> None:
        """Measures the weights within an epoch with the evaluations that are due, for the record."""

    def finish(self) -> Progress:
        """Waits until every epoch is decided and recorded, and tells where the run stands."""

    def close(self) -> None:
        """Ends what is under way; raises the cause where something in it failed."""


class AtOnce:
    """Training waits until an epoch is measured, decided and recorded."""

    def __init__(self, parts: Parts, progress: Progress) -> None:
        """Args: the run's parts, and where it stands."""
        self._parts = parts
        self._progress = progress

    @property
    def progress(self) -> Progress:
        """Where the run stands after the last epoch that was trained."""
        return self._progress

    def goes_on(self, epoch: int) -> bool:
        """Tells whether an epoch is trained."""
        return not self._progress.stopped

    def ended(self, trainer: Trainer, epoch: int, ended: event_pb2.EpochEnded) -> None:
        """Measures, decides, and records it all in one step."""
        parts, step = self._parts, trainer.reporter.step
        weights = checkpoint.save(trainer.model.state_dict(), parts.files.store)
        measured = parts.meter.measure(weights, Moment(epoch, step))
        measured.values |= own.values(parts.schedule, parts.meter.model_name, trainer.model)
        states, stopped, concluded = _conclude(parts, self._progress.callbacks, epoch, losses(ended), measured)
        self._progress = Progress(epoch, step, epoch, stopped, states)
        training_state = state.save(self._progress, *state.of(trainer.optimizer), parts.files.store)
        saved = event_pb2.CheckpointSaved(weights=weights, training_state=training_state)
        events = [event_pb2.Event(epoch_ended=ended), *concluded, event_pb2.Event(checkpoint_saved=saved)]
        parts.files.commit(_at(Moment(epoch, step), events))
        parts.committed.weights[epoch] = weights

    def interval(self, trainer: Trainer, epoch: int, due: Sequence[Evaluation]) -> None:
        """Measures the weights within an epoch, for the record."""
        weights = checkpoint.save(trainer.model.state_dict(), self._parts.files.store)
        _record_interval(self._parts, weights, Moment(epoch, trainer.reporter.step), due)

    def finish(self) -> Progress:
        """Tells where the run stands."""
        return self._progress

    def close(self) -> None:
        """Does nothing: nothing is under way."""


class WhileTraining:
    """An epoch is copied, and stored, measured and decided while the next ones train."""

    def __init__(self, parts: Parts, progress: Progress, lag: int) -> None:
        """Takes up what earlier workers trained and did not decide.

        Args:
            parts: The run's parts.
            progress: Where it stands.
            lag: Epochs that may be trained while one is measured, at least 1.

        """
        self._parts = parts
        self._progress = progress
        self._lag = lag
        self._weights, self._optimizer = Snapshots(), Snapshots()
        self._states: dict[int, States] = {progress.decided: progress.callbacks}
        self._own = {int(epoch): values for epoch, values in progress.own.items()}
        self._background = Background(
            lag, self._measure, self._decide, Decided(progress.decided, progress.stopped), parts.stopping
        )
        for epoch in range(progress.decided + 1, progress.epoch + 1):
            self._background.resubmit(epoch, parts.committed.weights[epoch])

    @property
    def progress(self) -> Progress:
        """Where the run stands after the last epoch that was trained."""
        return self._progress

    def goes_on(self, epoch: int) -> bool:
        """Waits for the decisions that are applied before an epoch, and tells whether it is trained."""
        return self._background.wait(epoch)

    def ended(self, trainer: Trainer, epoch: int, ended: event_pb2.EpochEnded) -> None:
        """Copies weights and optimizer; the rest happens elsewhere."""
        parts, moment = self._parts, Moment(epoch, trainer.reporter.step)
        weights = self._weights.take(trainer.model.state_dict())
        tensors, numbers = state.of(trainer.optimizer)
        remembered = self._optimizer.take(tensors)
        # What training may know, even where more has been decided: a restored run is where this one is.
        applied = max(epoch - 1 - self._lag, self._progress.decided)
        self._own[epoch] = own.values(parts.schedule, parts.meter.model_name, trainer.model)
        undecided = {str(number): values for number, values in self._own.items() if number > applied}
        self._progress = Progress(epoch, moment.step, applied, callbacks=self._states[applied], own=undecided)
        progress = self._progress
        parts.committed.losses[epoch], parts.committed.steps[epoch] = losses(ended), moment.step

        def store() -> blob_pb2.Bundle:
            bundle = checkpoint.save(weights.wait(), parts.files.store)
            self._weights.give_back(weights)
            kept = state.save(progress, remembered.wait(), numbers, parts.files.store)
            self._optimizer.give_back(remembered)
            saved = event_pb2.CheckpointSaved(weights=bundle, training_state=kept)
            events = [event_pb2.Event(epoch_ended=ended), event_pb2.Event(checkpoint_saved=saved)]
            parts.files.commit(_at(moment, events))
            parts.committed.weights[epoch] = bundle
            return bundle

        self._background.submit(epoch, store)

    def interval(self, trainer: Trainer, epoch: int, due: Sequence[Evaluation]) -> None:
        """Copies the weights within an epoch; they are measured elsewhere, for the record."""
        parts, moment = self._parts, Moment(epoch, trainer.reporter.step, self._not_wanted)
        weights = self._weights.take(trainer.model.state_dict())

        def store() -> blob_pb2.Bundle:
            bundle = checkpoint.save(weights.wait(), parts.files.store)
            self._weights.give_back(weights)
            return bundle

        self._background.aside(store, lambda bundle: _record_interval(parts, bundle, moment, due))

    def _not_wanted(self) -> bool:
        return self._background.over

    def _measure(self, epoch: int, weights: blob_pb2.Bundle) -> Measured:
        committed = self._parts.committed
        measured = self._parts.meter.measure(weights, Moment(epoch, committed.steps[epoch], self._not_wanted))
        measured.values |= self._own.get(epoch, {})
        if epoch in committed.decided:
            # What was recorded is what was decided on.
            measured = replace(measured, values=committed.metrics.get(epoch, {}))
        return measured

    def _decide(self, epoch: int, measured: Measured) -> bool:
        committed = self._parts.committed
        states, stopped, events = _conclude(
            self._parts, self._states[epoch - 1], epoch, committed.losses[epoch], measured
        )
        if epoch not in committed.decided and events:
            self._parts.files.commit(_at(Moment(epoch, committed.steps[epoch]), events))
        self._states[epoch] = states
        return stopped

    def finish(self) -> Progress:
        """Waits until every epoch is decided; those beyond the one that training ends with are dropped."""
        trained = self._progress.epoch
        self._background.drain(trained)
        decided = self._background.decided
        if decided.stopped and decided.epoch < trained:
            number = trained - decided.epoch
            text = f"Dropped {number} epoch{'s' if number > 1 else ''} trained while epoch {decided.epoch} was measured"
            self._parts.files.log(text)
        return replace(
            self._progress, decided=decided.epoch, stopped=decided.stopped, callbacks=self._states[decided.epoch]
        )

    def close(self) -> None:
        """Ends what is under way; raises the cause where something in it failed."""
        self._background.close()
        self._background.raise_failure()


def save_within(trainer: Trainer, progress: Progress, epoch: int, files: Files) -> None:
    """Saves training between two batches of an epoch, so that another worker goes on with the next one."""
    if not trainer.losses:
        return
    device = trainer.model.device
    inside = replace(progress, step=trainer.reporter.step, within=Within(trainer.losses, state.random_state(device)))
    saved = event_pb2.CheckpointSaved(
        weights=checkpoint.save(trainer.model.state_dict(), files.store),
        training_state=state.save(inside, *state.of(trainer.optimizer), files.store),
        batch=len(trainer.losses),
    )
    line = log_event(f"Saved epoch {epoch} after batch {len(trainer.losses)}, because the worker was asked to stop")
    files.commit(_at(Moment(epoch, inside.step), [event_pb2.Event(checkpoint_saved=saved), line]))


def _conclude(
    parts: Parts, states: States, epoch: int, epoch_losses: dict[str, float], measured: Measured
) -> tuple[States, bool, list[event_pb2.Event]]:
    """Shows an epoch's finished metrics to every decider.

    Returns:
        What the deciders remember now, whether training ends, and the events that say so.
    """
    after, decisions = parts.schedule.decide(
        states, epoch, Measurements({**epoch_losses, **measured.values}, measured.per_query)
    )
    events = []
    if measured.values:
        events.append(measured.event(event_pb2.STAGE_EPOCH, parts.files.store, parts.against))
        if not parts.committed.metrics:
            # Once per run: the first epoch that has metrics, by what is committed together with them.
            noise = parts.against.noise(measured.per_query, parts.schedule.monitored)
            events.extend([log_event(noise)] if noise else [])
        parts.committed.metrics.setdefault(epoch, measured.values)
    events.extend(decision_event(decision) for decision in decisions)
    events.extend(log_event(warning, event_pb2.SEVERITY_WARNING) for warning in measured.warnings)
    events.extend(log_event(decision.reason) for decision in decisions if decision.reason)
    return after, any(decision.verdict == "stop" for decision in decisions), events


def _record_interval(parts: Parts, weights: blob_pb2.Bundle, moment: Moment, due: Sequence[Evaluation]) -> None:
    measured = parts.meter.measure(weights, moment, due)
    if measured.values:
        parts.files.commit(_at(moment, [measured.event(event_pb2.STAGE_INTERVAL, parts.files.store)]))


def _at(moment: Moment, events: Iterable[event_pb2.Event]) -> list[event_pb2.Event]:
    """Dates events with the epoch and the step that they are about, which training may have left behind."""
    dated = list(events)
    for event in dated:
        event.epoch, event.step = moment.epoch, moment.step
    return dated
