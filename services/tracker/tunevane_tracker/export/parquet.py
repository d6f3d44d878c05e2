"""Parquet: a row for each number, and at least one for each event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, STAGE_BEFORE, STAGE_EPOCH, Event
from tunevane_tracker.export.source import Source
from tunevane_tracker.sinks.scalars import scalars
from tunevane_tracker.state import VERDICTS

ROWS_PER_GROUP = 50_000
STAGES = {STAGE_BEFORE: "before", STAGE_EPOCH: "epoch", STAGE_AFTER: "after"}

Row = tuple[object, ...]
COLUMNS = ("sequence", "time", "epoch", "step", "kind", "name", "value", "low", "high", "stage", "text")


def write(source: Source, path: Path) -> None:
    """Writes a run into a file; its configuration is in the file's metadata, under `tunevane.run`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.dictionary(pa.int32(), pa.string())
    types = {
        "sequence": pa.int64(),
        "time": pa.timestamp("us", tz="UTC"),
        "epoch": pa.int32(),
        "step": pa.int64(),
        "kind": words,
        "name": words,
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "stage": words,
        "text": pa.string(),
    }
    run = source.run
    about = json.dumps({"name": run.name, "uid": run.uid, "config": run.config}, sort_keys=True)
    schema = pa.schema([(name, types[name]) for name in COLUMNS], metadata={"tunevane.run": about})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[Row] = []

        def flush() -> None:
            columns: list[Any] = [
                pa.array([row[place] for row in waiting], types[name]) for place, name in enumerate(COLUMNS)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            waiting.clear()

        for event in source.events:
            waiting.extend(rows(event))
            if len(waiting) >= ROWS_PER_GROUP:
                flush()
        flush()


def rows(event: Event) -> Iterator[Row]:
    """Yields the rows of an event, in the order of `COLUMNS`."""
    kind = event.WhichOneof("kind") or "unknown"
    micros = event.event_time.seconds * 1_000_000 + event.event_time.nanos // 1000
    head = (event.sequence, micros, event.epoch, event.step, kind)
    stage = STAGES.get(event.metrics_measured.stage) if kind == "metrics_measured" else None
    intervals = event.metrics_measured.intervals if kind == "metrics_measured" else {}
    text = _text(event, kind)
    found = scalars(event)
    for name, value in found.items():
        interval = intervals[key] if (key := name.partition("/")[2]) in intervals else None
        ends = (None, None) if interval is None else (interval.low, interval.high)
        yield (*head, name, value, *ends, stage, text)
    if not found:
        yield (*head, None, None, None, None, stage, text)


def _text(event: Event, kind: str) -> str | None:
    """Returns what an event says to people."""
    if kind == "log_written":
        return event.log_written.text
    if kind == "decision_made":
        decision = event.decision_made
        return f"{VERDICTS.get(decision.verdict, 'unknown')}: {decision.reason}"
    if kind == "checkpoint_saved":
        return "resume" if event.checkpoint_saved.HasField("training_state") else "model"
    if kind == "evaluation_reported":
        told = event.evaluation_reported
        return f"{told.evaluation}: {told.activity} {told.done} of {told.total}"
    if kind == "run_ended":
        ended = event.run_ended
        return ended.failure_reason or ("cancelled" if ended.cancelled else "succeeded")
    return None
