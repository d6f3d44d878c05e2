"""What is exported is read by the tools that it is for, with nothing missing."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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

from support.programs import require
from support.prometheus import prometheus
from support.tracker_events import NDCG, START_SECONDS, numbered, whole_run
from support.tracker_service import NAME, UID, Served, tracker
from tunevane.api.type.v1.event_pb2 import (
    STAGE_EPOCH,
    VERDICT_IMPROVED,
    DecisionMade,
    EpochEnded,
    Event,
    LogWritten,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import Interval, MetricSet
from tunevane.errors import ConfigurationError, DataFormatError, NotFoundError, StorageFullError, UnavailableError
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.export import jsonl
from tunevane_tracker.export.export import FORMATS, Format, export
from tunevane_tracker.export.source import Source, offline, remote
from tunevane_tracker.runs import TrackedRun

CONFIG: dict[str, object] = {"model": 'mini"lm\n', "loss": "cosent", "dataset": "d1", "epochs": 2, "rates": [0.5, 1]}
STEPS = 700
"""More than a page of events, in half a minute: many a second."""


def long_run() -> list[Event]:
    """Makes a run of many steps within milliseconds of each other, a clock that steps back, and a resumption."""
    draw = random.Random(7)
    events = [Event(run_started=RunStarted(epochs=2, batches_per_epoch=STEPS))]
    for step in range(1, STEPS + 1):
        loss = draw.choice([draw.random(), 0.25, math.nan, math.inf]) if step % 50 == 0 else draw.random()
        events.append(Event(epoch=1, step=step, step_reported=StepReported(batch=step, loss=loss, learning_rate=0.5)))
    interval = Interval(low=-0.01, high=0.02, confidence=0.95)
    metrics = MetricsMeasured(stage=STAGE_EPOCH, metrics=MetricSet(values={NDCG: 0.5}), intervals={NDCG: interval})
    events += [
        Event(epoch=1, step=STEPS, epoch_ended=EpochEnded(train_loss=0.5, val_loss=0.75)),
        Event(epoch=1, step=STEPS, metrics_measured=metrics),
        Event(
            epoch=1,
            step=STEPS,
            decision_made=DecisionMade(callback="early_stopping", verdict=VERDICT_IMPROVED, patience_left=2),
        ),
        Event(epoch=1, step=STEPS, run_started=RunStarted(resumed_after_epoch=1, epochs=2)),
        Event(epoch=2, step=STEPS + 1, step_reported=StepReported(batch=1, loss=0.125)),
        Event(epoch=2, step=STEPS + 1, log_written=LogWritten(text='Zeile "zwei" ✨\n\\')),
        Event(epoch=2, step=STEPS + 1, run_ended=RunEnded(artifact_epoch=1)),
    ]
    numbered(events)
    for number, event in enumerate(events):
        # Three in one millisecond, and every hundredth from a clock that is behind.
        event.event_time.seconds = START_SECONDS + number // 30 - (5 if number % 100 == 99 else 0)
        event.event_time.nanos = (number // 3 % 10) * 1_000_000
    return events


EVENTS = long_run()


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


def exact(events: Sequence[Event]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]


def source(events: Sequence[Event], name: str = "a-run") -> Source:
    return Source(TrackedRun(1, UID, name, CONFIG, float(START_SECONDS), len(events), None, 0), iter(events))


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


def test_the_folder_of_a_tracker_that_has_ended_gives_the_same(tmp_path: Path) -> None:
    folder, events = tmp_path / "state", whole_run(2)
    with tracker(TrackerConfig(port=0, http_port=0, state_dir=folder, wandb="off")) as made:
        made.publish(events, CONFIG)
        asked = tmp_path / "asked.jsonl"
        with remote(made.target, UID) as found:
            export(found, FORMATS["jsonl"], asked)
        with pytest.raises(ConfigurationError, match="another tracker uses the state_dir"), offline(folder, NAME):
            pass
    read = tmp_path / "read.jsonl"
    with offline(folder, NAME) as found:
        export(found, FORMATS["jsonl"], read)
    assert read.read_bytes() == asked.read_bytes()


def test_a_run_without_events_is_exported_in_every_format(tmp_path: Path) -> None:
    for name, chosen in FORMATS.items():
        path = tmp_path / f"empty{chosen.ending}"
        export(source([]), chosen, path)
        assert path.exists(), name


def test_what_is_there_is_not_overwritten_by_accident_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        export(source([]), FORMATS["jsonl"], path)
    assert path.read_text() == "mine"

    def broken() -> Iterator[Event]:
        yield Event(sequence=1)
        raise UnavailableError("gone")

    about = source([]).run
    with pytest.raises(UnavailableError):
        export(Source(about, broken()), FORMATS["jsonl"], path, replace=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
    export(source([]), FORMATS["jsonl"], path, replace=True)
    assert path.read_text().startswith('{"run"')


def test_a_folder_with_other_files_is_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    export(source(EVENTS[:3]), FORMATS["tensorboard"], folder)
    export(source(EVENTS), FORMATS["tensorboard"], folder, replace=True)
    (file,) = folder.rglob("events.out.tfevents.*")
    (folder / "thesis.tex").write_text("mine")
    for name in ("tensorboard", "jsonl"):
        with pytest.raises(ConfigurationError, match="a folder with other files in it"):
            export(source(EVENTS), FORMATS[name], folder, replace=True)
    assert file.exists()
    assert (folder / "thesis.tex").read_text() == "mine"


def test_a_full_disk_gets_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    def fill_up(_: Source, path: Path) -> None:
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFullError, match="is full; nothing was left of the export"):
        export(source([]), Format(".any", fill_up), tmp_path / "run.any")
    assert not list(tmp_path.iterdir())


def test_unknown_runs_and_folders_get_a_sentence(served: Served, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="the tracker knows no run 'nobody'"), remote(served.target, "nobody"):
        pass
    with pytest.raises(ConfigurationError, match=r"no tracker's state_dir"), offline(tmp_path, NAME):
        pass


def command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TUNEVANE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "tunevane", "tracker", "export", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=home,
    )


def test_the_command_writes_a_file_named_like_the_run(served: Served, tmp_path: Path) -> None:
    done = command(NAME, "--target", served.target, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{NAME}.jsonl\n"), done.stderr
    assert exact(list(jsonl.read(tmp_path / f"{NAME}.jsonl"))) == exact(EVENTS)
    done = command(NAME, "--target", served.target, "--format", "openmetrics", "--output", "-", home=tmp_path)
    assert done.stdout.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("a-run", "--format", "csv"), 2, "format: must be one of jsonl, openmetrics, parquet, tensorboard, not 'csv'"),
        (("a-run",), 2, "no tracker's state_dir"),
        (("a-run", "--target", "x:1", "--state-dir", "y"), 2, "state_dir: cannot be given together with a target"),
        (("a-run", "--format", "tensorboard", "--output", "-"), 2, "must be a folder for tensorboard"),
        (("a-run", "--output", "nowhere/at/all.jsonl"), 2, "there is no folder"),
    ],
)
def test_a_wrong_command_gets_one_sentence(tmp_path: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    done = command(*words, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
