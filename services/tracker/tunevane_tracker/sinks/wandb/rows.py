"""Turns the events of a run into rows and summaries for Weights & Biases. Pure.

The step of a row is the event's sequence number, so that a row which is sent again takes its own place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunevane.api.type.v1.event_pb2 import (
    STAGE_AFTER,
    STAGE_BEFORE,
    DecisionMade,
    EpochEnded,
    Event,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.core import examples
from tunevane_tracker.sinks.scalars import seconds
from tunevane_tracker.state import VERDICTS

CALLBACK = "wandb-logger"
"""Name of the callback that asks for the mirror."""

MAX_STEP_ROWS = 50_000
"""Rows of single steps per run: W&B is made for fewer than 100,000 points of a metric."""

Op = Literal["row", "summary", "finish"]
Values = dict[str, float | int | str]


EXAMPLE_COLUMNS = ("evaluation", "query", "rank", "id", "text", "score", "relevant")


@dataclass(frozen=True)
class Table:
    """A table within a row."""

    columns: Sequence[str]
    """Names of the columns."""

    data: Sequence[Sequence[float | int | str | bool | None]]
    """Rows, as long as `columns`."""


@dataclass(frozen=True)
class Command:
    """One thing for the child process to do."""

    op: Op
    """`row` appends to the history, `summary` sets final values, `finish` ends the run."""

    sequence: int
    """Number of the event that it comes from."""

    values: Values
    """What to log, fit for JSON; `exit_code` for `finish`."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    """Tables of a row."""

    def as_json(self) -> dict[str, object]:
        """Returns the message for the child."""
        tables = {name: {"columns": table.columns, "data": table.data} for name, table in self.tables.items()}
        return {"op": self.op, "sequence": self.sequence, "values": self.values, "tables": tables}


def options(config: Mapping[str, object]) -> Mapping[str, object] | None:
    """Finds the options of the run's W&B callback; None when it has none, and so is not mirrored."""
    callbacks = config.get("callbacks")
    for callback in callbacks if isinstance(callbacks, list) else []:
        if isinstance(callback, Mapping) and callback.get("name") == CALLBACK:
            found = callback.get("options")
            return found if isinstance(found, Mapping) else {}
    return None


def finite(value: float) -> float | None:
    """Returns a number that a table can hold; None for one that is not finite."""
    return value if math.isfinite(value) else None


def clean(value: object) -> object:
    """Makes a value fit for JSON: NaN and infinities become the texts that W&B reads as such."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


class Rows:
    """Maps the events of one run, in order, from the first."""

    def __init__(self, chosen: Mapping[str, object]) -> None:
        """Takes the options of the callback."""
        self._by_batch = chosen.get("metrics_logger_step", "epoch") == "batch"
        self._zero_shot = chosen.get("log_zero_shot", True) is not False
        every = chosen.get("every_n_steps")
        self._every: int | None = every if isinstance(every, int) else None
        self._planned_rows = 0
        self._step_rows = 0
        self._interval = 0
        self._learning_rate: float | None = None

    def commands(self, event: Event) -> list[Command]:
        """Lists what an event means for W&B; often nothing."""
        # By itself W&B would take the time at which a row is sent, or sent again.
        at: Values = {"_timestamp": seconds(event)}
        made = [
            Command(op, event.sequence, _clean_values(at | values if op == "row" else values))
            for op, values in self._commands(event)
        ]
        tables = self._tables(event)
        if not tables:
            return made
        # A table belongs to the row of its event; what the artifact finds has a row of its own.
        rows = [each for each in made if each.op == "row"] or [
            Command("row", event.sequence, at | {"epoch": event.epoch})
        ]
        others = [each for each in made if each.op != "row"]
        return [*others, Command("row", event.sequence, rows[0].values, tables)]

    def _commands(self, event: Event) -> Iterator[tuple[Op, Values]]:
        kind = event.WhichOneof("kind")
        if kind == "run_started":
            self._plan(event.run_started)
        elif kind == "step_reported":
            self._learning_rate = event.step_reported.learning_rate
            if self._by_batch and self._chosen(event):
                yield "row", _step(event, event.step_reported)
        elif kind == "epoch_ended":
            yield "row", self._epoch(event, event.epoch_ended)
        elif kind == "metrics_measured":
            yield from self._metrics(event, event.metrics_measured)
        elif kind == "decision_made":
            yield "row", _decision(event, event.decision_made)
        elif kind == "run_ended":
            yield from _end(event.run_ended)

    def _plan(self, started: RunStarted) -> None:
        self._planned_rows = started.epochs * started.batches_per_epoch

    def _chosen(self, event: Event) -> bool:
        """Thins the rows of single steps; a function of the events so far, so that a replay chooses the same."""
        every = self._every or max(1, math.ceil(self._planned_rows / MAX_STEP_ROWS))
        # Reports come at any step, so it is the first one behind each multiple that counts.
        interval = event.step // every
        if interval == self._interval or self._step_rows >= MAX_STEP_ROWS:
            return False
        self._interval = interval
        self._step_rows += 1
        return True

    def _tables(self, event: Event) -> dict[str, Table]:
        measured = event.metrics_measured
        stage = {STAGE_BEFORE: "before", STAGE_AFTER: "after"}.get(measured.stage, "")
        if not stage or (stage == "before" and not self._zero_shot):
            return {}
        data = [
            (name, query.text or query.id, rank, match.id, match.text, finite(match.score), match.relevant)
            for name, queries in examples.read_json(measured.shown_examples).items()
            for query in queries
            for rank, match in enumerate(query.results, 1)
        ]
        return {f"examples/{stage}": Table(EXAMPLE_COLUMNS, data)} if data else {}

    def _epoch(self, event: Event, ended: EpochEnded) -> Values:
        # With a row per batch, `train/loss` is the curve of the batches; the mean has a name of its own.
        loss = "train/epoch_loss" if self._by_batch else "train/loss"
        values: Values = {
            "epoch": event.epoch,
            "train/global_step": event.step,
            loss: ended.train_loss,
            "train/epoch_seconds": ended.seconds,
        }
        if ended.HasField("val_loss"):
            values["val/loss"] = ended.val_loss
        if self._learning_rate is not None and not self._by_batch:
            values["lr/0"] = self._learning_rate
        return values

    def _metrics(self, event: Event, measured: MetricsMeasured) -> Iterator[tuple[Op, Values]]:
        values = sorted(measured.metrics.values.items())
        if measured.stage == STAGE_BEFORE and not self._zero_shot:
            return
        if measured.stage == STAGE_BEFORE:
            yield "summary", {f"before/{name}": value for name, value in values}
        if measured.stage == STAGE_AFTER:
            # Not a row: the curve has this epoch already.
            yield "summary", {f"after/{name}": value for name, value in values}
        else:
            yield "row", {"epoch": event.epoch, **{f"metrics/{name}": value for name, value in values}}


def _step(event: Event, report: StepReported) -> Values:
    return {
        "epoch": event.epoch,
        "train/global_step": event.step,
        "train/loss": report.loss,
        "train/items_per_second": report.items_per_second,
        "lr/0": report.learning_rate,
    }


def _decision(event: Event, decision: DecisionMade) -> Values:
    name = f"decisions/{decision.callback}"
    values: Values = {
        "epoch": event.epoch,
        name: VERDICTS.get(decision.verdict, "unknown"),
        f"{name}/reason": decision.reason,
    }
    if decision.HasField("value"):
        values[f"{name}/value"] = decision.value
    if decision.HasField("patience_left"):
        values[f"{name}/patience_left"] = decision.patience_left
    return values


def _end(ended: RunEnded) -> Iterator[tuple[Op, Values]]:
    status = "cancelled" if ended.cancelled else "failed" if ended.failure_reason else "succeeded"
    summary: Values = {"status": status}
    if ended.artifact_epoch:
        summary["kept_epoch"] = ended.artifact_epoch
    if ended.failure_reason:
        summary["failure_reason"] = ended.failure_reason
    yield "summary", summary
    yield "finish", {"exit_code": 1 if status == "failed" else 0}


def _clean_values(values: Values) -> Values:
    cleaned: Values = {}
    for name, value in values.items():
        fit = clean(value)
        assert isinstance(fit, str | int | float)
        cleaned[name] = fit
    return cleaned
