"""A Lightning `Callback` that lets retrieval metrics steer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback as LightningCallback
from lightning.pytorch import LightningModule, Trainer

from tunevane.callback.base import Callback
from tunevane.errors import InvalidRequestError
from tunevane.steering import Outcome, Steering, steer


def _model_of(module: LightningModule) -> object:
    model = getattr(module, "model", None)
    if model is None:
        raise InvalidRequestError(
            f"{type(module).__name__} has no attribute 'model'; say where the encoder is:"
            " SteeringCallback(..., encoder=lambda module: module.encoder)"
        )
    return model


class SteeringCallback(LightningCallback):
    """Measures retrieval at every epoch end, keeps the best weights, and stops early.

    ```python
    callback = SteeringCallback(
        [EvaluationCallback(query_data=queries, index_data=index), BestModelCheckpoint(monitor="ndcg@10")],
        encoder=lambda module: module.encoder,
    )
    Trainer(max_epochs=10, callbacks=[callback]).fit(module, batches)
    print(callback.outcome.before, callback.outcome.after)
    ```

    The training loss is the unweighted mean of what `training_step` returns; the trainer's loggers get
    the metrics too. With several processes the first one measures and all of them stop.
    """

    def __init__(
        self,
        callbacks: Iterable[Callback],
        *,
        encoder: Callable[[LightningModule], object] = _model_of,
        report_every_steps: int = 50,
        **options: Any,
    ) -> None:
        """Keeps what to measure.

        Args:
            callbacks: As for `tunevane.fit`.
            encoder: Finds the encoder in the module; its attribute `model` by default.
            report_every_steps: How often the tracker hears of the training loss.
            options: Further options of `tunevane.steer`; Any, because they are handed on.

        """
        self._callbacks = list(callbacks)
        self._encoder = encoder
        self._every = report_every_steps
        self._options = options
        self._steering: Steering | None = None
        self._losses: list[torch.Tensor] = []
        self.outcome: Outcome | None = None
        """What came of the training; None before its end."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the model before training."""
        if not trainer.is_global_zero:
            return
        options = {"planned_epochs": max(trainer.max_epochs or 0, 0), **self._options}
        self._steering = steer(self._encoder(pl_module), self._callbacks, **options)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the loss of a batch; Any: what a step returns and takes is the module's own."""
        if self._steering is None:
            return
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        # Kept on the device: reading a number here would make every step wait.
        self._losses.append(loss.detach())
        if len(self._losses) % self._every == 0:
            recent = torch.stack(self._losses[-self._every :]).mean().item()
            self._steering.step_reported(
                epoch=trainer.current_epoch + 1, batch=batch_idx + 1, step=trainer.global_step, loss=recent
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures, decides, and stops training where that was decided."""
        stop = False
        if self._steering is not None:
            train_loss = torch.stack(self._losses).mean().item()
            batches, self._losses = len(self._losses), []
            val_loss = float(trainer.callback_metrics["val_loss"]) if self._options.get("with_val_loss") else None
            verdict = self._steering.epoch_ended(
                train_loss=train_loss, val_loss=val_loss, step=trainer.global_step, batches=batches
            )
            stop = verdict.stop
            measured = {
                name: value for name, value in verdict.metrics.items() if name not in ("train_loss", "val_loss")
            }
            for logger in trainer.loggers if measured else ():
                logger.log_metrics(measured, step=trainer.global_step)
        trainer.should_stop = trainer.should_stop or trainer.strategy.broadcast(stop)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the best weights into the model and measures them."""
        if self._steering is not None:
            self.outcome = self._steering.end()
            self._steering = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells the tracker that training failed."""
        if self._steering is not None:
            self._steering.failed(f"{type(exception).__name__}: {exception}")
            self._steering = None
