"""Files of sinks hold what the journal holds, bit for bit, whatever is killed or cut off in between."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format

from support.plugin import install
from support.sink_runs import CONFIG, bits, hard_run
from support.tracker_service import NAME, UID, Served, eventually, kill, sink_processes, tracker
from tunevane import plugins
from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import ConfigurationError
from tunevane_tracker import service
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.sinks.scalars import by_step, scalars

RUN = hard_run()
HOSTING = "tunevane_tracker.sinks.hosting"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(service, "Delivery", partial(Delivery, first_wait_seconds=0.1))
    yield
    plugins._registered.cache_clear()


def settings(folder: Path, *sinks: str) -> TrackerConfig:
    return TrackerConfig(
        port=0, http_port=0, state_dir=folder / "state", wandb="off", sinks=sinks, sinks_dir=folder / "out"
    )


def wait(served: Served, *sinks: str, through: int = len(RUN)) -> None:
    for sink in sinks:
        eventually(lambda sink=sink: served.delivered(sink) == through)  # type: ignore[misc]


def journal(served: Served) -> list[Event]:
    return list(served.stub.ListEvents(pb.ListEventsRequest(run=f"runs/{NAME}", page_size=1000)).events)


def json_lines(folder: Path) -> tuple[dict[str, object], list[bytes]]:
    """Reads the file of `jsonl`: the run, and its events as bytes, so that a NaN can be compared."""
    first, *lines = (folder / "out" / "jsonl" / f"{NAME}.{UID}.jsonl").read_text().splitlines()
    events = [json_format.ParseDict(json.loads(line), Event()) for line in lines]
    return json.loads(first)["run"], [event.SerializeToString(deterministic=True) for event in events]


def event_file(folder: Path) -> Path:
    (path,) = (folder / "out" / "tensorboard").rglob("*tfevents*")
    return path


def points(folder: Path) -> list[tuple[str, int, bytes]]:
    """Reads the event file with TensorBoard's own loader: name, step and bits of every number."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    return [
        (value.tag, record.step, bits(float(make_ndarray(value.tensor))))
        for record in EventFileLoader(str(event_file(folder))).Load()
        for value in record.summary.value
        if value.metadata.plugin_data.plugin_name == "scalars"
    ]


def expected_points(events: list[Event]) -> list[tuple[str, int, bytes]]:
    return [
        (name, event.step if by_step(name) else event.epoch, bits(value))
        for event in events
        for name, value in scalars(event).items()
    ]


def test_files_hold_the_journal_bit_for_bit_although_their_processes_are_killed(tmp_path: Path) -> None:
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        for begin in range(0, len(RUN), 7):
            served.publish(RUN[begin : begin + 7], CONFIG if begin == 0 else None)
            for process in sink_processes(HOSTING):
                kill(process)
        wait(served, "jsonl", "tensorboard")
        kept = journal(served)
        _, metrics = served.get("/metrics")
    run, lines = json_lines(tmp_path)
    assert run == {"name": NAME, "uid": UID, "config": CONFIG}
    assert lines == [event.SerializeToString(deterministic=True) for event in kept]
    assert points(tmp_path) == expected_points(kept)
    assert 'tunevane_tracker_sink_put_aside_events{sink="jsonl"} 0.0' in metrics


def test_a_torn_end_is_cut_off_and_written_again(tmp_path: Path) -> None:
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        served.publish(RUN[:20], CONFIG)
        wait(served, "jsonl", "tensorboard", through=20)
    lines = tmp_path / "out" / "jsonl" / f"{NAME}.{UID}.jsonl"
    lines.write_bytes(lines.read_bytes()[:-17])
    events = event_file(tmp_path)
    events.write_bytes(events.read_bytes()[:-17])
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        served.publish(RUN[20:])
        wait(served, "jsonl", "tensorboard")
        kept = journal(served)
    assert json_lines(tmp_path)[1] == [event.SerializeToString(deterministic=True) for event in kept]
    assert points(tmp_path) == expected_points(kept)


def test_files_that_were_lost_are_written_again_from_the_first_event(tmp_path: Path) -> None:
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        served.publish(RUN[:20], CONFIG)
        wait(served, "jsonl", "tensorboard", through=20)
    (tmp_path / "out" / "jsonl" / f"{NAME}.{UID}.jsonl").unlink()
    event_file(tmp_path).unlink()
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        served.publish(RUN[20:])
        wait(served, "jsonl", "tensorboard")
        kept = journal(served)
    assert len(json_lines(tmp_path)[1]) == len(kept)
    assert points(tmp_path) == expected_points(kept)


def test_files_that_are_removed_under_way_are_written_again_from_the_first_event(tmp_path: Path) -> None:
    with tracker(settings(tmp_path, "jsonl", "tensorboard")) as served:
        served.publish(RUN[:20], CONFIG)
        wait(served, "jsonl", "tensorboard", through=20)
        (tmp_path / "out" / "jsonl" / f"{NAME}.{UID}.jsonl").unlink()
        event_file(tmp_path).unlink()
        served.publish(RUN[20:])
        wait(served, "jsonl", "tensorboard")
        kept = journal(served)
    assert len(json_lines(tmp_path)[1]) == len(kept)
    assert points(tmp_path) == expected_points(kept)


def test_tensorboard_itself_shows_the_curves_without_what_a_lost_worker_reported(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    with tracker(settings(tmp_path, "tensorboard")) as served:
        served.publish(RUN, CONFIG)
        wait(served, "tensorboard")
    shown = EventAccumulator(str(event_file(tmp_path)), size_guidance={"tensors": 0})
    shown.Reload()
    steps = [point.step for point in shown.Tensors("train/loss")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in shown.Tensors("metrics/minilm_ndcg@10")] == [0, 1, 2]
    config = shown.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert '"loss": "cosent"' in config
    table = shown.Tensors("examples/after/minilm")[0].tensor_proto.string_val[0].decode()
    assert "| a red apple | 1 | apple, red | 0.5000 | yes |" in table


def test_a_sink_as_the_documentation_shows_it_gets_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "tracking.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class CsvWriter" in block)
    install(tmp_path, monkeypatch, "losses_csv", code, "tunevane.sinks", "losses-csv")
    with tracker(settings(tmp_path, "losses-csv")) as served:
        served.publish(RUN[:15], CONFIG)
        wait(served, "losses-csv", through=15)
        for process in sink_processes(HOSTING):
            kill(process)
        served.publish(RUN[15:])
        wait(served, "losses-csv")
    rows = [
        line.split(",") for line in (tmp_path / "out" / "losses-csv" / f"{NAME}.{UID}.csv").read_text().splitlines()
    ]
    ends = [event for event in RUN if event.HasField("epoch_ended")]
    assert [int(row[0]) for row in rows] == [event.sequence for event in ends]
    assert np.array_equal([float(row[2]) for row in rows], [event.epoch_ended.train_loss for event in ends])


POISONED = """
import os
from tunevane_tracker.sinks.hosted import HostedSink

def sink(context):
    return HostedSink(context, "poisoned:Poisoned")

class Poisoned:
    def __init__(self, folder, environ):
        self._file = folder / "taken"

    def open(self, run):
        return int(self._file.read_text().split()[-1]) if self._file.exists() else 0

    def write(self, run, events):
        for event in events:
            if event.sequence == 7:
                os._exit(3)
            with self._file.open("a") as file:
                file.write(f"{event.sequence}\\n")

    def close(self, run):
        pass
"""


def test_an_event_that_kills_a_sink_three_times_is_put_aside_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, monkeypatch, "poisoned", POISONED, "tunevane.sinks", "poisoned")
    with tracker(settings(tmp_path, "poisoned")) as served:
        served.publish(RUN, CONFIG)
        wait(served, "poisoned")
        _, metrics = served.get("/metrics")
        states = served.stub.GetTrackedRun(pb.GetTrackedRunRequest(run=f"runs/{NAME}")).sinks
    problems = {state.sink: state.problem for state in states}
    assert problems["poisoned"] == "put aside, because they killed the sink three times: events 7"
    taken = [int(line) for line in (tmp_path / "out" / "poisoned" / "taken").read_text().split()]
    assert taken == [event.sequence for event in RUN if event.sequence != 7]
    assert 'tunevane_tracker_sink_put_aside_events{sink="poisoned"} 1.0' in metrics
    assert any("event put aside" in record.message and "sequence=7" in record.message for record in caplog.records)


def test_an_unknown_sink_is_refused_with_the_names_of_those_there_are(tmp_path: Path) -> None:
    known = r"unknown sink 'csv'; registered are: jsonl, mlflow, prometheus"
    with pytest.raises(ConfigurationError, match=known), tracker(settings(tmp_path, "csv")):
        pass


def test_a_sink_whose_package_is_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    hint = r"install tunevane\[tensorboard\]"
    with pytest.raises(ConfigurationError, match=hint), tracker(settings(tmp_path, "tensorboard")):
        pass
