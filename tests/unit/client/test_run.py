"""A run as its user sees it, at a real trainer service in which a test plays the worker."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.page_events import BEFORE, MRR, end, epoch, examples, failed, log, start, values
from support.proxy import proxied
from support.trainer_service import Trainer, trainer
from support.waits import eventually
from tunevane.api.type.v1.event_pb2 import Event, RunEnded
from tunevane.client.connection import Connection
from tunevane.client.run import Run
from tunevane.core import bundles
from tunevane.errors import NotFoundError, PreconditionError, RunFailedError, RunInProgressError, RunPreparingError

NAME = "brisk-vane"
MODEL = b"the weights"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Trainer]:
    with trainer(tmp_path / "service") as started:
        started.create(NAME)
        yield started


@pytest.fixture
def run(service: Trainer) -> Iterator[Run]:
    with Connection(service.target) as connection:
        yield Run(connection, NAME)


def bare(events: list[Event]) -> list[Event]:
    """Leaves out the numbers, which the service gives."""
    for number, event in enumerate(events):
        event.sequence = 0
        event.event_time.seconds = 1_700_000_000 + number
    return events


def finish(service: Trainer, *, with_examples: bool = True) -> None:
    """Ends the run well, with an artifact of two files and examples before and after."""
    blobs = service.runs.blobs
    artifact = bundles.make(
        {"model.safetensors": blobs.put_bytes(MODEL), "1_Pooling/config.json": blobs.put_bytes(b"{}")}
    )
    events = bare([*start(), *(event for number in range(1, 7) for event in epoch(number)), *end()])
    stages = {1: examples(4), 3: examples(1)}
    for event in events:
        kind = event.metrics_measured
        if with_examples and event.HasField("metrics_measured") and kind.stage in stages:
            kind.examples.CopyFrom(blobs.put_bytes(stages[kind.stage]))
    events[-1].run_ended.artifact.CopyFrom(artifact)
    service.append(NAME, events)


def test_a_run_that_waits(run: Run) -> None:
    assert run.status() == "PENDING"
    assert run.name == NAME
    assert run.config == {"model": {"name": "minilm"}, "epochs": 8, "batch_size": 64}
    assert run.metrics(live=True) == {"before": {}, "after": {}}
    assert run.history().epochs == []
    assert run.decisions() == []
    with pytest.raises(RunPreparingError, match="stream_logs"):
        run.logs()


def test_a_run_that_goes_on(run: Run, service: Trainer) -> None:
    service.append(NAME, bare([*start(), *epoch(1), *epoch(2)]))
    assert run.status() == "RUNNING"
    live = run.metrics(live=True)
    assert live == {"before": pytest.approx(values(0)), "after": pytest.approx(values(2))}
    assert [each.epoch for each in run.history().epochs] == [1, 2]
    assert [each.verdict for each in run.decisions()] == ["improved"] * 4
    assert "Model improved from -inf to 0.289!" in run.logs()
    for question in (run.metrics, run.example_results, run.display_metrics, run.display_examples):
        with pytest.raises(RunInProgressError, match="still going on"):
            question()
    with pytest.raises(RunInProgressError):
        run.save_artifact("nowhere")
    with pytest.raises(RunInProgressError):
        assert run.artifact_id
    with pytest.raises(PreconditionError):
        run.delete()


def test_a_run_that_ended_well(run: Run, service: Trainer) -> None:
    finish(service)
    assert run.status() == run.wait() == "SUCCEEDED"
    assert run.metrics() == {"before": pytest.approx(values(0)), "after": pytest.approx(values(4))}
    assert len(run.artifact_id) == 32
    history = run.history()
    assert history.artifact_epoch == 4
    assert history.intervals[MRR].low < history.after[MRR] - history.before[MRR] < history.intervals[MRR].high
    found = run.example_results()
    assert [query["text"] for query in found["after"]["minilm"]["queries"]] == ["Katze", "شجرة", "a slice of 🍕"]  # type: ignore[index]  # JSON
    run.cancel()
    assert run.status() == "SUCCEEDED"


def test_a_run_that_failed(run: Run, service: Trainer) -> None:
    service.append(NAME, bare(failed()))
    assert run.status() == "FAILED"
    assert "ran out of memory" in run.failure_reason
    assert "ERROR the device ran out of memory" in run.logs()
    for question in (run.metrics, run.example_results, run.display_metrics, run.display_examples):
        with pytest.raises(RunFailedError, match="failed: the device ran out of memory"):
            question()
    with pytest.raises(RunFailedError):
        run.save_artifact("nowhere")


def test_a_run_that_is_cancelled(run: Run, service: Trainer) -> None:
    service.append(NAME, bare(start()))
    run.cancel()
    assert run.status() == "CANCELLING"
    service.append(NAME, [Event(run_ended=RunEnded(cancelled=True))])
    assert run.status() == "CANCELLED"
    with pytest.raises(RunFailedError, match="was cancelled"):
        run.metrics()
    run.delete()
    with pytest.raises(NotFoundError):
        run.status()


def test_the_stream_waits_for_the_start_and_ends_with_the_run(run: Run, service: Trainer) -> None:
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(run.stream_logs()))
    reader.start()
    finish(service)
    reader.join(20)
    assert not reader.is_alive()
    assert lines == run.logs().splitlines()
    assert lines[0] == "DEBUG Preparing the run on cpu"
    assert lines[-1] == "INFO  Finished 🚀"


def test_every_line_comes_once_and_in_order_however_often_the_connection_breaks(service: Trainer) -> None:
    written = [f"line {number}" for number in range(300)]
    with proxied(service.target) as proxy, Connection(proxy.target) as connection:
        run = Run(connection, NAME)
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(run.stream_logs()))
        reader.start()
        for number, first in enumerate(range(0, 300, 50)):
            service.append(NAME, [log(text) for text in written[first : first + 50]])
            if number % 2:
                # Now while nothing is under way, else in the middle of it.
                eventually(lambda arrived=first + 50: len(lines) >= arrived)  # type: ignore[misc]  # called at once
            proxy.break_all()
        service.append(NAME, [Event(run_ended=RunEnded(cancelled=True))])
        reader.join(60)
        assert not reader.is_alive()
        assert len(proxy.passed) >= 4
    assert lines == [f"INFO  {text}" for text in written]


def test_the_artifact_is_a_folder_with_what_was_measured(run: Run, service: Trainer, tmp_path: Path) -> None:
    finish(service)
    moved: list[tuple[int, int]] = []
    folder = run.save_artifact(tmp_path / "artifacts", lambda done, total: moved.append((done, total)))
    assert folder == tmp_path / "artifacts" / NAME
    assert (folder / "model.safetensors").read_bytes() == MODEL
    assert (folder / "1_Pooling" / "config.json").read_bytes() == b"{}"
    assert moved[-1][0] == moved[-1][1] == len(MODEL) + 2
    about = json.loads((folder / "run.json").read_text())
    assert (about["name"], about["config"]["epochs"]) == (NAME, 8)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["after"] == pytest.approx(values(4))
    assert metrics["artifact_epoch"] == 4
    assert set(metrics["intervals"]) == {f"minilm_{name}" for name in BEFORE}
    assert len(metrics["epochs"]) == 6
    assert metrics["decisions"][-1]["verdict"] == "stop"
    found = json.loads((folder / "examples.json").read_text())
    assert len(found["before"]["minilm"]["queries"]) == 3
    (folder / "of-old").touch()
    assert run.save_artifact(tmp_path / "artifacts") == folder
    assert not (folder / "of-old").exists()
    assert [path.name for path in folder.parent.iterdir()] == [NAME]


def test_values_that_json_lacks_are_null(run: Run, service: Trainer, tmp_path: Path) -> None:
    events = bare([*start(), *epoch(1)])
    for event in events:
        if event.HasField("epoch_ended"):
            event.epoch_ended.train_loss = math.nan
        if event.HasField("decision_made"):
            event.decision_made.value = -math.inf
    service.append(NAME, events)
    finish(service, with_examples=False)
    folder = run.save_artifact(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert metrics["decisions"][0]["value"] is None
    assert json.loads((folder / "examples.json").read_text()) == {"before": {}, "after": {}}


def test_displays_go_to_stdout(run: Run, service: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    finish(service)
    run.display_metrics()
    run.display_decisions()
    run.display_examples(k=2)
    shown = capsys.readouterr()
    assert "Retrieval metrics before and after fine-tuning" in shown.out
    assert "Kept epoch 4 because reciprocal_rank rose from 0.334 to 0.345" in shown.out
    assert "“Katze”" in shown.out
    assert shown.err == ""
