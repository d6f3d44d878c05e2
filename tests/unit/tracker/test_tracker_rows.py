"""Rows for Weights & Biases are a pure function of the events and the callback's options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from support.tracker_events import NDCG, START_SECONDS, numbered, whole_run
from support.wandb_runs import EXAMPLES, with_examples
from tunevane.api.type.v1.event_pb2 import Event, RunEnded, RunStarted, StepReported
from tunevane_tracker.sinks.wandb import rows as rows_module
from tunevane_tracker.sinks.wandb.rows import EXAMPLE_COLUMNS, Command, Rows, clean, options


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


def test_rows_have_the_time_of_their_event() -> None:
    made = [each for each in commands(whole_run(1), {}) if each.op == "row"]
    assert [each.values["_timestamp"] for each in made] == [START_SECONDS + each.sequence for each in made]
    assert not any("_timestamp" in each.values for each in commands(whole_run(1), {}) if each.op != "row")


def test_examples_become_a_table_before_and_one_after() -> None:
    made = commands([*with_examples(whole_run(1))], {})
    tables = {name: table for each in made for name, table in each.tables.items()}
    assert list(tables) == ["examples/before", "examples/after"]
    table = tables["examples/after"]
    assert table.columns == EXAMPLE_COLUMNS
    (query,) = EXAMPLES["minilm"]["queries"]
    assert table.data[0] == ("minilm", query["text"], 1, "d1", "apple, red", 0.5, True)
    assert len(table.data) == 2
    assert [each.op for each in made if each.tables] == ["row", "row"]
    assert len({each.sequence for each in made if each.op == "row"}) == sum(each.op == "row" for each in made)
    silent = commands([*with_examples(whole_run(1))], {"log_zero_shot": False})
    assert [name for each in silent for name in each.tables] == ["examples/after"]


def steps(count: int, planned: int) -> list[Event]:
    started = Event(run_started=RunStarted(epochs=1, batches_per_epoch=planned))
    return numbered(
        [started, *(Event(step=n, step_reported=StepReported(batch=n, loss=n)) for n in range(1, count + 1))]
    )


def test_only_every_nth_step_is_logged_when_asked() -> None:
    made = commands(steps(10, 10), {"metrics_logger_step": "batch", "every_n_steps": 4})
    assert [each.values["train/global_step"] for each in made] == [4, 8]


def test_reports_that_come_at_any_step_are_thinned_to_the_first_behind_each_multiple() -> None:
    reports = [Event(step=step, step_reported=StepReported(loss=1.0)) for step in (3, 7, 8, 13, 14, 30, 9, 15)]
    made = commands(numbered(reports), {"metrics_logger_step": "batch", "every_n_steps": 5})
    # The last two come again after a lost worker.
    assert [each.values["train/global_step"] for each in made] == [7, 13, 30, 9, 15]


def test_a_long_run_is_thinned_to_what_wandb_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_STEP_ROWS", 8)
    chosen = {"metrics_logger_step": "batch"}
    made = commands(steps(30, 30), chosen)
    assert [each.values["train/global_step"] for each in made] == [4, 8, 12, 16, 20, 24, 28]
    # A run that is longer than its plan said.
    assert len(commands(steps(30, 8), chosen)) == 8
    ends = whole_run(12)
    rows = [each for each in commands(ends, chosen) if each.op == "row"]
    assert sum("train/epoch_loss" in each.values for each in rows) == 12, "epochs are never left out"
    assert sum(f"metrics/{NDCG}" in each.values for each in rows) == 13


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
    (row,) = commands(numbered([Event(step=1, step_reported=report)]), {"metrics_logger_step": "batch"})
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
