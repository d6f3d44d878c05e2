"""The moments of training as a fold over a run's events: each in the specified order, and once."""

from __future__ import annotations

from collections.abc import Iterator

from tunevane.api.type.v1 import event_pb2
from tunevane.callback.base import Notice


class Notices:
    """Turns events, in sequence order, into notices; an epoch that is trained again after a loss is told once."""

    def __init__(self) -> None:
        self._begun = False
        self._ended = False
        self._epoch = 0
        self._batches = 0
        self._trained = 0
        self._saved = 0
        self._held: list[event_pb2.Event] = []

    def of(self, event: event_pb2.Event) -> Iterator[Notice]:
        """Yields the notices that an event gives rise to; most give none."""
        kind = event.WhichOneof("kind")
        if self._ended:
            return
        if kind == "run_started" and not self._begun:
            self._begun = True
            yield "on_fit_begin"
        elif kind == "step_reported" and event.epoch > self._saved + 1:
            # Where epochs are stored while the next ones train, reports may overtake the end of an epoch.
            self._held.append(event)
        elif kind == "step_reported":
            yield from self._up_to(event.epoch, event.step_reported.batch)
        elif kind == "epoch_ended" and event.epoch > self._trained:
            self._trained = event.epoch
            yield from self._up_to(event.epoch, event.epoch_ended.batches)
            yield "on_train_epoch_end"
            yield from self._validated(event.epoch_ended)
        elif kind == "checkpoint_saved" and not event.checkpoint_saved.batch and event.epoch > self._saved:
            self._saved = event.epoch
            yield "on_epoch_end"
            held, self._held = self._held, []
            for report in held:
                yield from self.of(report)
        elif kind == "run_ended":
            self._ended = True
            yield "on_fit_end" if event.run_ended.HasField("artifact") else "on_exception"

    def _up_to(self, epoch: int, batches: int) -> Iterator[Notice]:
        """Yields what has happened up to a batch of an epoch and was not told yet."""
        if epoch > self._epoch:
            self._epoch, self._batches = epoch, 0
            yield "on_epoch_begin"
            yield "on_train_epoch_begin"
        while epoch == self._epoch and self._batches < batches:
            self._batches += 1
            yield "on_train_batch_begin"
            yield "on_train_batch_end"

    @staticmethod
    def _validated(ended: event_pb2.EpochEnded) -> Iterator[Notice]:
        if ended.val_batches:
            yield "on_val_begin"
            for _ in range(ended.val_batches):
                yield "on_val_batch_begin"
                yield "on_val_batch_end"
            yield "on_val_end"
