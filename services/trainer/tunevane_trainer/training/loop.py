"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from tunevane.api.type.v1 import event_pb2
from tunevane.callback.schedule import Schedule
from tunevane.core.dataset import Dataset
from tunevane.nn.device import arithmetic
from tunevane.nn.encode import text_features, tokenise
from tunevane_trainer.training import batches
from tunevane_trainer.training.batches import Batch
from tunevane_trainer.training.optimizers import AdamW
from tunevane_trainer.training.reporter import Reporter
from tunevane_trainer.training.state import Within, restore_random_state

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

REPORT_SECONDS = 0.5


class Stopped(Exception):  # noqa: N818  # it is no error
    """The run was asked to stop, or the process was."""


@dataclass
class Trainer:
    """Everything that an epoch needs."""

    model: SentenceTransformer
    """The model under training."""

    loss: Any
    """A loss of sentence-transformers, which has no common type: features and labels in, a scalar out."""

    optimizer: torch.optim.Optimizer
    """What steps."""

    settings: AdamW
    """How the learning rate moves."""

    train_data: Dataset
    """What is learned from."""

    eval_data: Dataset | None
    """What the validation loss is computed on; None for none."""

    epochs: int
    """Epochs planned."""

    batch_size: int
    """Rows per batch."""

    seed: int
    """Seed of every random choice."""

    bf16: bool
    """Whether forward passes run in bfloat16."""

    reporter: Reporter
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
        # Dropout and batches depend on seed and epoch alone, so a resumed run repeats them to the bit.
        torch.manual_seed(self.seed * 1_000_003 + number)
        if within is not None:
            restore_random_state(within.random, self.model.device)
        started = time.perf_counter()
        self.schedule.notify("on_train_epoch_begin")
        losses = self.losses = [] if within is None else list(within.losses)
        reported_at, reported = started, len(losses)
        for batch in islice(batches.epoch(self.train_data, self.batch_size, self.seed, number), len(losses), None):
            if self.stopping():
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
        self.schedule.notify("on_train_epoch_end")
        ended = event_pb2.EpochEnded(
            train_loss=sum(losses) / len(losses), batches=len(losses), seconds=time.perf_counter() - started
        )
        if self.eval_data is not None:
            ended.val_loss = self.validate(self.eval_data)
            ended.val_batches = batches.count(self.eval_data, self.batch_size)
        return ended

    def _step(self, batch: Batch) -> float:
        rate = self.settings.rate(self.reporter.step, self.epochs * self.batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        value = float(loss.detach())
        # A step with a loss that is not finite would destroy the weights; the loss itself is kept as it is.
        if math.isfinite(value):
            self.optimizer.step()
        self.reporter.step += 1
        return value

    def _loss(self, batch: Batch) -> torch.Tensor:
        columns = [text_features(self.model, tokenise(self.model, column)) for column in batch.columns]
        with arithmetic(self.model.device, bf16=self.bf16):
            loss: torch.Tensor = self.loss(columns, batch.labels.to(self.model.device))
        return loss

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
        self.schedule.notify("on_val_begin")
        self.model.eval()
        losses = []
        with torch.no_grad():
            for batch in batches.epoch(data, self.batch_size, self.seed, 0):
                self.schedule.notify("on_val_batch_begin")
                losses.append(float(self._loss(batch)))
                self.schedule.notify("on_val_batch_end")
        self.schedule.notify("on_val_end")
        return sum(losses) / len(losses)
