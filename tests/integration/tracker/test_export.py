"""What is exported is read by the tools that it is for, with nothing missing."""

from __future__ import annotations

import json
import math
import stat
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from support.exported import CONFIG, EVENTS, exact, source
from support.programs import require
from support.prometheus import prometheus
from support.tracker_events import NDCG, START_SECONDS, whole_run
from support.tracker_service import NAME, UID, Served, tracker
from tunevane.api.type.v1.event_pb2 import (
    DecisionMade,
    Event,
    LogWritten,
    MetricsMeasured,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import MetricSet
from tunevane.errors import DataFormatError
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.export import jsonl
from tunevane_tracker.export.export import FORMATS, export
from tunevane_tracker.export.source import remote


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracker")


@pytest.fixture(scope="module")
def served(state_dir: Path) -> Iterator[Served]:
    with tracker(TrackerConfig(port=0, http_port=0, state_dir=state_dir, wandb="off")) as made:
        for begin in range(0, len(EVENTS), 400):
            made.publish(EVENTS[begin : begin + 400], CONFIG if begin == 0 else None)
        yield made


@pytest.fixture
def write(served: Served, tmp_path: Path) -> Callable[[str], Path]:
    """Exports from the running tracker by gRPC."""

    def work(name: str) -> Path:
        path = tmp_path / f"made{FORMATS[name].ending}"
        with remote(served.target, NAME) as source:
            export(source, FORMATS[name], path)
        return path

    return work


def openmetrics(path: Path) -> dict[str, Metric]:
    """Takes a file apart with the strict parser of prometheus-client."""
    found: Iterator[Metric] = text_string_to_metric_families(path.read_text(encoding="utf-8"))  # type: ignore[no-untyped-call]
    return {family.name: family for family in found}


def seconds(sample: Sample) -> float:
    assert sample.timestamp is not None
    return float(sample.timestamp)


def test_json_lines_lose_nothing(write: Callable[[str], Path]) -> None:
    path = write("jsonl")
    assert exact(list(jsonl.read(path))) == exact(EVENTS)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"run": {"name": NAME, "uid": UID, "config": CONFIG}}
    assert [int(line["sequence"]) for line in lines[1:]] == list(range(1, len(EVENTS) + 1))
    # The claim to an anonymous W&B run may be among the lines of the log.
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


numbers = st.floats(width=64) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
texts = st.text(max_size=20)
events_of_any_kind = st.one_of(
    st.builds(lambda loss, rate: Event(step_reported=StepReported(loss=loss, learning_rate=rate)), numbers, numbers),
    st.builds(lambda text: Event(log_written=LogWritten(text=text)), texts),
    st.builds(
        lambda values: Event(metrics_measured=MetricsMeasured(metrics=MetricSet(values=values))),
        st.dictionaries(texts, numbers, max_size=4),
    ),
    st.builds(lambda text, value: Event(decision_made=DecisionMade(reason=text, value=value)), texts, numbers),
    # Fields of a version that does not exist yet, unknown to JSON.
    st.builds(lambda tail: Event.FromString(b"\xfa\x7f" + bytes([len(tail)]) + tail), st.binary(max_size=9)),
    st.just(Event()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events_of_any_kind, max_size=5))
def test_json_lines_lose_nothing_of_any_event(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "any.jsonl"
    jsonl.write(source(events), path)
    assert exact(list(jsonl.read(path))) == exact(events)


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    for line in ('{"sequence": "x"}', "[]", "not json", '{"encoded": "?"}'):
        path.write_text(f'{{"run": {{}}}}\n{{"sequence": "1"}}\n{line}\n', encoding="utf-8")
        with pytest.raises(DataFormatError, match=r"bad\.jsonl, line 3: this is no event"):
            list(jsonl.read(path))


def test_parquet_has_a_row_for_every_event_and_every_number(write: Callable[[str], Path]) -> None:
    table = pq.read_table(write("parquet"))
    rows = table.to_pylist()
    assert {row["sequence"] for row in rows} == set(range(1, len(EVENTS) + 1))
    losses = [row["value"] for row in rows if row["name"] == "train/loss"]
    expected = [event.step_reported.loss for event in EVENTS if event.HasField("step_reported")]
    assert [repr(value) for value in losses] == [repr(value) for value in expected]
    (score,) = (row for row in rows if row["name"] == f"metrics/{NDCG}")
    assert (score["value"], score["low"], score["high"], score["stage"], score["epoch"]) == (
        0.5,
        -0.01,
        0.02,
        "epoch",
        1,
    )
    (line,) = (row for row in rows if row["kind"] == "log_written")
    assert line["text"] == 'Zeile "zwei" ✨\n\\'
    assert line["value"] is None
    times = {row["sequence"]: row["time"].timestamp() for row in rows}
    for event in EVENTS[:: len(EVENTS) // 20]:
        assert times[event.sequence] == pytest.approx(event.event_time.seconds + event.event_time.nanos / 1e9)
    about = json.loads(table.schema.metadata[b"tunevane.run"])
    assert about == {"name": NAME, "uid": UID, "config": CONFIG}


def test_tensorboards_own_reader_finds_every_step(write: Callable[[str], Path]) -> None:
    folder = write("tensorboard")
    (file,) = folder.rglob("events.out.tfevents.*")
    # TensorBoard forgets what a resumption repeats; everything is in the file.
    reader = EventAccumulator(str(file), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    reader.Reload()
    points = reader.Tensors("train/loss")
    steps = [event for event in EVENTS if event.HasField("step_reported")]
    assert [point.step for point in points] == [event.step for event in steps]
    values = [float(tensor_util.make_ndarray(point.tensor_proto)) for point in points]
    assert [repr(value) for value in values] == [repr(event.step_reported.loss) for event in steps]
    assert {f"metrics/{NDCG}", "epoch/val_loss", "lr/0", "config"} <= set(reader.Tags()["tensors"])


def test_openmetrics_is_what_the_standard_says(write: Callable[[str], Path]) -> None:
    families = openmetrics(write("openmetrics"))
    assert families["tunevane_run_train_steps"].type == "counter"
    (info, *_) = families["tunevane_run_info"].samples
    assert info.labels["model"] == CONFIG["model"]
    for family in families.values():
        assert family.documentation
        series: dict[frozenset[tuple[str, str]], list[float]] = {}
        for sample in family.samples:
            series.setdefault(frozenset(sample.labels.items()), []).append(seconds(sample))
        for times in series.values():
            assert all(before < after for before, after in pairwise(times)), family.name


def test_prometheus_serves_every_step_of_the_export(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write("openmetrics")
    folder = tmp_path / "prometheus"
    command = [require("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(path), str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [event for event in EVENTS if event.HasField("step_reported")]
    end = START_SECONDS + len(EVENTS) // 30 + 2
    with prometheus(folder) as server:

        def points(expr: str) -> list[tuple[float, float]]:
            (found,) = server.get("query", query=f"{expr}[10m]", time=end)["result"]
            return [(when, float(value)) for when, value in found["values"]]

        # Raw points, not what is visible at some interval: none may be missing, changed or out of order.
        losses = points("tunevane_run_train_loss")
        counts = points("tunevane_run_train_steps_total")
        assert len({when for when, _ in losses}) == len(losses)
        reported = [event.step_reported.loss for event in steps]
        # The mean of each epoch is a training loss too.
        told = [value for _, value in losses]
        position = 0
        for value in reported:
            position = 1 + next(place for place in range(position, len(told)) if repr(told[place]) == repr(value))
        assert len(told) <= len(reported) + 2
        assert [value for _, value in counts if value] == sorted(value for _, value in counts if value)
        assert {int(value) for _, value in counts} >= {event.step for event in steps}
        scores = {
            dict(labels)["phase"]: value for labels, value in server.now("tunevane_run_retrieval_score", end).items()
        }
        assert scores == {"current": 0.5, "best": 0.5}
        states = server.now("tunevane_run_state == 1", end)
        assert [dict(labels)["state"] for labels in states] == ["succeeded"]
        (info,) = server.now("tunevane_run_info", end)
        assert dict(info)["model"] == CONFIG["model"]
        assert list(server.now("tunevane_run_restarts_total", end).values()) == [1.0]


def test_a_value_that_stays_is_visible_for_as_long_as_the_run(tmp_path: Path) -> None:
    events = whole_run(2)
    for number, event in enumerate(events):
        event.event_time.seconds = START_SECONDS + 45 * number
    path = tmp_path / "slow.openmetrics"
    export(source(events), FORMATS["openmetrics"], path)
    families = openmetrics(path)
    before = [
        sample for sample in families["tunevane_run_retrieval_score"].samples if sample.labels["phase"] == "before"
    ]
    times = [seconds(sample) for sample in before]
    assert max(after - earlier for earlier, after in pairwise(times)) <= 300
    assert times[-1] == events[-1].event_time.seconds
