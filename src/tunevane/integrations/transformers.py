"""A `TrainerCallback` for Hugging Face's `Trainer` and sentence-transformers' `SentenceTransformerTrainer`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunevane.callback.base import Callback
from tunevane.steering import Outcome, Steering, steer


class SteeringCallback(TrainerCallback):
    """Measures retrieval at every epoch end, keeps the best weights, and stops early.

    ```python
    callback = SteeringCallback(
        [EvaluationCallback(query_data=queries, index_data=index), BestModelCheckpoint(monitor="ndcg@10")]
    )
    SentenceTransformerTrainer(model=model, train_dataset=train, loss=loss, callbacks=[callback]).train()
    print(callback.outcome.before, callback.outcome.after)
    ```

    The training loss is the mean over the epoch's steps as the trainer logs it; where the trainer evaluates every
    epoch, its `eval_loss` is the validation loss. With several processes the first one measures and all of them stop.
    """

    def __init__(self, callbacks: Iterable[Callback], **options: Any) -> None:
        """Args: the callbacks, and further options of `tunevane.steer`; Any, because they are handed on."""
        self._callbacks = list(callbacks)
        self._options = options
        self._steering: Steering | None = None
        self._losses: list[tuple[float, int]] = []
        self._last_step = 0
        self._waits_for_validation = False
        self._epoch_is_over = False
        self.outcome: Outcome | None = None
        """What came of the training; None before its end."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures the model before training."""
        self._waits_for_validation = str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "epoch"
        if not state.is_world_process_zero:
            return
        options = {
            "tokenizer": kwargs.get("processing_class"),
            "seed": args.seed,
            "planned_epochs": math.ceil(args.num_train_epochs),
            "with_val_loss": self._waits_for_validation,
            **self._options,
        }
        self._steering = steer(kwargs["model"], self._callbacks, **options)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks the trainer to log, because what it logs is the loss of the epoch's last steps."""
        self._epoch_is_over = True
        control.should_log = True
        if state.global_step == self._last_step and not self._waits_for_validation:
            # Every step has been logged, so the trainer will not log again.
            self._end_epoch(state, control, None)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Hears of losses; ends the epoch after its last one, unless its validation is still to come."""
        if logs is None or "loss" not in logs:
            return
        steps = state.global_step - self._last_step
        self._last_step = state.global_step
        self._losses.append((float(logs["loss"]), steps))
        if not self._epoch_is_over and self._steering is not None:
            self._steering.step_reported(
                epoch=int(state.epoch or 0) + 1,
                batch=sum(count for _, count in self._losses),
                step=state.global_step,
                loss=float(logs["loss"]),
                learning_rate=float(logs.get("learning_rate", 0.0)),
            )
        elif self._epoch_is_over and not self._waits_for_validation:
            self._end_epoch(state, control, None)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Ends the epoch once its validation loss is known."""
        if self._epoch_is_over and self._waits_for_validation:
            self._end_epoch(state, control, float((metrics or {})["eval_loss"]))

    def _end_epoch(self, state: TrainerState, control: TrainerControl, val_loss: float | None) -> None:
        self._epoch_is_over = False
        losses, self._losses = self._losses, []
        stop = False
        if self._steering is not None:
            batches = sum(count for _, count in losses)
            train_loss = sum(loss * count for loss, count in losses) / max(batches, 1)
            verdict = self._steering.epoch_ended(
                train_loss=train_loss, val_loss=val_loss, step=state.global_step, batches=batches
            )
            stop = verdict.stop
            measured = {
                name: value for name, value in verdict.metrics.items() if name not in ("train_loss", "val_loss")
            }
            if measured:
                # Beside what the trainer logs, so that its own report has them too.
                state.log_history.append({**measured, "epoch": verdict.epoch, "step": state.global_step})
        if _first_process_says(stop):
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Puts the best weights into the model and measures them."""
        if self._steering is not None:
            self.outcome = self._steering.end()
            self._steering = None


def _first_process_says(stop: bool) -> bool:
    """Returns what the first process decided, in every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return stop
    said = [stop]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]
