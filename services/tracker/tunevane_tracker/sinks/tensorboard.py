"""The sink `tensorboard`: an event file per run, written without TensorFlow and without torch.

Numbers are stored as 64-bit floats, bit for bit; TensorBoard itself draws them with 32 bits. Each event of a run
becomes one record, with its number in the first value's `node_name`, which viewers do not show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from tunevane.api.type.v1.event_pb2 import STAGE_AFTER, STAGE_BEFORE, Event
from tunevane.core import examples
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.scalars import by_step, scalars, seconds

HEADER_BYTES = 12
"""Before the content of a record: its length, 8 bytes, and a checksum of that, 4 bytes."""

CHECKSUM_BYTES = 4
"""After the content."""

_SCALAR = summary_pb2.SummaryMetadata(
    plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars"),
    data_class=summary_pb2.DATA_CLASS_SCALAR,
)
_TEXT = summary_pb2.SummaryMetadata(
    plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
    data_class=summary_pb2.DATA_CLASS_TENSOR,
)


class TensorBoardWriter:
    """Appends to `<run>.<uid>/events.out.tfevents.…`; a record that a killed process left unfinished is cut off."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Writes into `folder`."""
        self._folder = folder

    def path(self, run: TrackedRun) -> Path:
        """Returns the run's file; by habit its name holds a time, and a host, which is nobody's affair."""
        return self._folder / f"{run.name}.{run.uid}" / f"events.out.tfevents.{int(run.created)}.tunevane"

    def open(self, run: TrackedRun) -> int:
        """Cuts off an unfinished record and reads the number of the last event."""
        path = self.path(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            config = json.dumps(run.config, indent=1, sort_keys=True)
            begin = [
                event_pb2.Event(wall_time=run.created, file_version="brain.Event:2"),
                _start(run.created, 0),
                _record(0, run.created, 0, [_text("config", f"    {config}".replace("\n", "\n    "))]),
            ]
            scratch = path.with_name("begin")
            scratch.write_bytes(b"")
            _append(scratch, begin)
            scratch.replace(path)
            return 0
        last = 0
        with path.open("r+b") as file:
            whole = 0
            for end, content in _records(file.read()):
                whole = end
                record = event_pb2.Event.FromString(content)
                if record.summary.value:
                    last = int(record.summary.value[0].node_name or 0)
            file.truncate(whole)
        return last

    def write(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Appends the events and waits for the disk."""
        _append(self.path(run), [record for event in events for record in _of(event)])

    def close(self, run: TrackedRun) -> None:
        """Nothing is held open."""


def _of(event: Event) -> Iterator[event_pb2.Event]:
    """Yields what an event becomes; often nothing."""
    if event.HasField("run_started") and event.run_started.resumed_after_epoch:
        # What was reported after this step was lost with a worker, and comes again.
        yield _start(seconds(event), event.step + 1)
    found = scalars(event)
    values = [_scalar(name, value) for name, value in found.items()] + list(_texts(event))
    if values:
        step = event.step if any(by_step(name) for name in found) else event.epoch
        yield _record(event.sequence, seconds(event), step, values)


def _start(wall_time: float, step: int) -> event_pb2.Event:
    """Says that steps from `step` on come now, whatever there was; the first one in a file replaces nothing."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return event_pb2.Event(wall_time=wall_time, step=step, session_log=start)


def _texts(event: Event) -> Iterator[summary_pb2.Summary.Value]:
    kind = event.WhichOneof("kind")
    if kind == "decision_made" and event.decision_made.reason:
        yield _text(f"decisions/{event.decision_made.callback}/reason", event.decision_made.reason)
    if kind == "metrics_measured":
        stage = {STAGE_BEFORE: "before", STAGE_AFTER: "after"}.get(event.metrics_measured.stage)
        found = examples.read_json(event.metrics_measured.shown_examples) if stage else {}
        for name, queries in found.items():
            yield _text(f"examples/{stage}/{name}", _table(queries))
    if kind == "run_ended" and event.run_ended.failure_reason:
        yield _text("failure_reason", event.run_ended.failure_reason)


def _table(queries: Sequence[examples.Query]) -> str:
    rows = [
        f"| {_cell(query.text or query.id)} | {rank} | {_cell(match.text or match.id)} | {match.score:.4f} "
        f"| {'yes' if match.relevant else ''} |"
        for query in queries
        for rank, match in enumerate(query.results, 1)
    ]
    return "\n".join(["| query | rank | result | score | relevant |", "|---|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _scalar(name: str, value: float) -> summary_pb2.Summary.Value:
    return summary_pb2.Summary.Value(tag=name, metadata=_SCALAR, tensor=make_tensor_proto(value, dtype=np.float64))


def _text(name: str, text: str) -> summary_pb2.Summary.Value:
    return summary_pb2.Summary.Value(
        tag=name, metadata=_TEXT, tensor=make_tensor_proto([text.encode()], dtype=np.object_)
    )


def _record(sequence: int, wall_time: float, step: int, values: Sequence[summary_pb2.Summary.Value]) -> event_pb2.Event:
    values[0].node_name = str(sequence)
    return event_pb2.Event(wall_time=wall_time, step=step, summary=summary_pb2.Summary(value=values))


def _append(path: Path, records: Sequence[event_pb2.Event]) -> None:
    # Not made anew when somebody removed it: the process dies of that, and all of the run is written again.
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        writer = RecordWriter(file)
        for record in records:
            writer.write(record.SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the whole records and where each ends, up to the first one that is not whole."""
    position = 0
    while position + HEADER_BYTES <= len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        begin = position + HEADER_BYTES
        end = begin + length + CHECKSUM_BYTES
        content = data[begin : begin + length]
        checksum = int.from_bytes(data[begin + length : end], "little")
        if end > len(data) or checksum != masked_crc32c(content):
            return
        yield end, content
        position = end
