"""Rows for Weights & Biases are a pure function of the events and the callback's options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from support.tracker_events import NDCG, numbered, whole_run
from tunevane.api.type.v1.event_pb2 import Event, RunEnded, StepReported
from tunevane_tracker.sinks.wandb.rows import Command, Rows, clean, options


def commands(events: list[Event], chosen: Mapping[str, object]) -> list[Command]:
    rows = Rows(chosen)
    return [command for event in events for command in rows.commands(event)]


def test_a_row_has_the_number_of_its_event_as_step() -> None:
    events = whole_run(2)
    made = commands(events, {})
    assert [each.sequence for each in made] == sorted(each.sequence for each in made)
    kinds = {event.sequence: event.WhichOneof("kind") for event in events}
    rows = [kinds[each.sequence] for each in made if each.op == "row"]
    assert rows == ["metrics_measured", *["epoch_ended", "metrics_measured", "decision_made"] * 2]


def test_by_epoch_logs_the_mean_loss_and_the_last_learning_rate() -> None:
    (row,) = [each for each in commands(whole_run(1), {}) if "train/loss" in each.values]
    assert row.values["train/loss"] == 1.0
    assert row.values["val/loss"] == 2.0
    assert row.values["lr/0"] == 0.5
    assert row.values["train/global_step"] == 3


def test_by_batch_logs_every_report_and_names_the_mean_otherwise() -> None:
    made = commands(whole_run(1), {"metrics_logger_step": "batch"})
    assert sum("train/loss" in each.values for each in made) == 3
    assert sum("train/epoch_loss" in each.values for each in made) == 1


def test_before_is_at_epoch_zero_unless_it_is_switched_off() -> None:
    before = [each for each in commands(whole_run(1), {}) if each.values.get("epoch") == 0 and each.op == "row"]
    assert [each.values[f"metrics/{NDCG}"] for each in before] == [0.5]
    silent = commands(whole_run(1), {"log_zero_shot": False})
    assert not any(f"before/{NDCG}" in each.values or each.values.get("epoch") == 0 for each in silent)


def test_after_is_a_summary_and_no_row() -> None:
    made = [each for each in commands(whole_run(1), {}) if f"after/{NDCG}" in each.values]
    assert [each.op for each in made] == ["summary"]


@pytest.mark.parametrize(
    ("ended", "status", "exit_code"),
    [
        (RunEnded(artifact_epoch=1), "succeeded", 0),
        (RunEnded(failure_reason="no memory"), "failed", 1),
        (RunEnded(cancelled=True), "cancelled", 0),
    ],
)
def test_the_end_tells_status_and_exit_code(ended: RunEnded, status: str, exit_code: int) -> None:
    summary, finish = commands(numbered([Event(run_ended=ended)]), {})
    assert summary.values["status"] == status
    assert (finish.op, finish.values["exit_code"]) == ("finish", exit_code)


def test_nothing_that_json_cannot_say_gets_through() -> None:
    report = StepReported(loss=math.nan, learning_rate=math.inf, items_per_second=-math.inf)
    (row,) = commands(numbered([Event(step_reported=report)]), {"metrics_logger_step": "batch"})
    assert row.values["train/loss"] == "NaN"
    assert row.values["lr/0"] == "Infinity"
    assert row.values["train/items_per_second"] == "-Infinity"
    assert clean({"a": [1, (math.nan,), None, object]}) == {"a": [1, ["NaN"], None, str(object)]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"callbacks": "wandb-logger"}, None),
        ({"callbacks": [{"name": "early-stopping"}, "wandb-logger"]}, None),
        ({"callbacks": [{"name": "wandb-logger"}]}, {}),
        ({"callbacks": [{"name": "wandb-logger", "options": {"log_zero_shot": False}}]}, {"log_zero_shot": False}),
    ],
)
def test_only_runs_with_the_callback_are_mirrored(config: dict[str, Any], expected: object) -> None:
    assert options(config) == expected
