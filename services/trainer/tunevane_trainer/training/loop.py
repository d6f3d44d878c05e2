"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch

from tunevane.api.type.v1 import event_pb2
from tunevane.callback.schedule import Schedule
from tunevane.core.dataset import Dataset
from tunevane_trainer.training import batches, shared
from tunevane_trainer.training.batches import Batch
from tunevane_trainer.training.distributed import Group
from tunevane_trainer.training.gradients import Gradients
from tunevane_trainer.training.optimizers import AdamW
from tunevane_trainer.training.options import TrainingOptions
from tunevane_trainer.training.state import Within, restore_random_state
from tunevane_trainer.training.stopping import Stopped
from tunevane_trainer.training.vectors import Reader

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Reports", "Stopped", "Trainer"]

REPORT_SECONDS = 0.5


class Reports(Protocol):
    """Hears of training."""

    epoch: int
    """Epoch that is trained."""

    step: int
    """Optimizer steps taken."""

    def emit(self, *events: event_pb2.Event) -> None:
        """Takes events."""


@dataclass
class Trainer:
    """Everything that an epoch needs."""

    model: SentenceTransformer
    """The model under training."""

    gradients: Gradients
    """Computes the loss of a batch and its gradients."""

    optimizer: torch.optim.Optimizer
    """What steps."""

    settings: AdamW
    """How the learning rate moves."""

    train_data: Dataset
    """What is learned from."""

    eval_data: Dataset | None
    """What the validation loss is computed on; None for none."""

    readers: tuple[Reader, Reader | None]
    """Compute vectors of items of the two."""

    codes: dict[str, int] | None
    """Numbers of labels, where the loss learns something of each; None where they only tell contents apart."""

    options: TrainingOptions
    """How batches are drawn."""

    epochs: int
    """Epochs planned."""

    batch_size: int
    """Rows per batch, over all processes."""

    seed: int
    """Seed of every random choice."""

    group: Group
    """The processes that share each batch."""

    reporter: Reports
    """Hears of every batch."""

    schedule: Schedule
    """The callbacks, for notices."""

    stopping: Callable[[], bool]
    """Tells whether to stop after the batch in hand."""

    losses: list[float] = field(default_factory=list)
    """Losses of the epoch's batches so far."""

    between: Callable[[int], None] = lambda _: None
    """Called within an epoch, between two batches, with the number of those that are done."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return batches.count(self.train_data, self.batch_size)

    def train_epoch(self, number: int, within: Within | None = None) -> event_pb2.EpochEnded:
        """Trains one epoch and returns what came of it.

        Args:
            number: The epoch, from 1.
            within: Where an earlier worker left it; None begins it.

        Raises:
            Stopped: Between two batches; `losses` are those of the batches that are done.

        """
        started = time.perf_counter()
        self.schedule.notify("on_train_epoch_begin")
        self.losses = [] if within is None else list(within.losses)
        with self.group.epoch():
            self._begin(number, within)
            self._train(number)
        self.schedule.notify("on_train_epoch_end")
        ended = event_pb2.EpochEnded(
            train_loss=sum(self.losses) / len(self.losses),
            batches=len(self.losses),
            seconds=time.perf_counter() - started,
        )
        if self.eval_data is not None and self.group.leads:
            ended.val_loss = self.validate(self.eval_data)
            ended.val_batches = batches.count(self.eval_data, self.batch_size)
        return ended

    def _begin(self, number: int, within: Within | None) -> None:
        shared.begin(self.group, number, self.reporter.step, self.losses, self.model, self.optimizer)
        # Dropout and batches depend on seed and epoch alone, so a resumed run repeats them to the bit.
        torch.manual_seed(self.seed * 1_000_003 + number + self.group.rank * 1_000_000_007)
        if within is not None:
            restore_random_state(within.random, self.model.device)

    def _train(self, number: int) -> None:
        losses = self.losses
        reported_at, reported = time.perf_counter(), len(losses)
        epoch = batches.epoch(self.train_data, self.batch_size, self.seed, number, self.options, self.codes)
        for batch in islice(epoch, len(losses), None):
            if self.group.any(self.stopping()):
                raise Stopped
            self.schedule.notify("on_train_batch_begin")
            losses.append(self._step(batch))
            self.schedule.notify("on_train_batch_end")
            moment = time.perf_counter()
            if moment - reported_at > REPORT_SECONDS or len(losses) == self.batches_per_epoch:
                rate = (len(losses) - reported) * self.batch_size / max(moment - reported_at, 1e-9)
                self._report(losses, reported, rate)
                reported_at, reported = moment, len(losses)
            if len(losses) < self.batches_per_epoch:
                self.between(len(losses))

    def _step(self, batch: Batch) -> float:
        rate = self.settings.rate(self.reporter.step, self.epochs * self.batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = self.gradients.add(self.readers[0], batch)
        self.group.add_up(self.model.parameters())
        if self.settings.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        # A step with a loss that is not finite would destroy the weights; the loss itself is kept as it is.
        if math.isfinite(value):
            self.optimizer.step()
        self.reporter.step += 1
        return value

    def _report(self, losses: Sequence[float], reported: int, rate: float) -> None:
        recent = losses[reported:]
        self.reporter.emit(
            event_pb2.Event(
                step_reported=event_pb2.StepReported(
                    batch=len(losses),
                    loss=sum(recent) / len(recent),
                    items_per_second=rate,
                    learning_rate=self.optimizer.param_groups[0]["lr"],
                )
            )
        )

    def validate(self, data: Dataset) -> float:
        """Returns the mean of the batch losses over a data set, without changing anything."""
        read = self.readers[1]
        assert read is not None
        self.schedule.notify("on_val_begin")
        self.model.eval()
        losses = []
        for batch in batches.epoch(data, self.batch_size, self.seed, 0, self.options, self.codes):
            self.schedule.notify("on_val_batch_begin")
            losses.append(self.gradients.value(read, batch))
            self.schedule.notify("on_val_batch_end")
        self.schedule.notify("on_val_end")
        return sum(losses) / len(losses)
