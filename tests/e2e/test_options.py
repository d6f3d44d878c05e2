"""Options of callbacks in real runs: within epochs, while training, mixes, other searches, objects and plug-ins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

import tunevane
from support.small_run import METRIC, TRAIN, concluded, evaluation, fit
from support.stack import TRACKER, local_services, process
from support.words import INDEX, QUERIES
from tunevane.api.type.v1 import event_pb2
from tunevane.callback import BestModelCheckpoint, Callback, EarlyStopping, WiSEFTCallback
from tunevane.callback.base import Notice
from tunevane.errors import InvalidRequestError
from tunevane.local.stack import Stack

PLUGIN = '''
"""A callback that writes down, in the worker, what it hears."""
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from tunevane.callback import Callback

@dataclass(frozen=True)
class Diary(Callback):
    """Writes notices to a file."""
    name: ClassVar[str] = "diary"
    path: str = ""

    def notify(self, notice):
        with Path(self.path).open("a") as file:
            file.write(notice + "\\n")
'''


@dataclass(frozen=True)
class Hears(Callback):
    """Remembers what it hears, in the process of the test."""

    name: ClassVar[str] = "hears"
    heard: list[Notice] = field(default_factory=list)

    def notify(self, notice: Notice) -> None:
        self.heard.append(notice)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that registers a callback."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "diary-1.0.dist-info").mkdir()
    (folder / "diary-1.0.dist-info" / "METADATA").write_text("Name: diary\nVersion: 1.0\n")
    (folder / "diary-1.0.dist-info" / "entry_points.txt").write_text("[tunevane.callbacks]\ndiary = diary:Diary\n")
    (folder / "diary.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Stack]:
    path = os.pathsep.join(each for each in (str(package), os.environ.get("PYTHONPATH")) if each)
    with local_services(tmp_path_factory.mktemp("home"), PYTHONPATH=path) as started:
        tunevane.connect()
        yield started


def test_everything_at_once(stack: Stack) -> None:
    """One run with most options, because each run costs seconds; what each gives is looked at on its own."""
    listener = Hears()
    callbacks: list[Callback] = [
        listener,
        evaluation(asynchronous=True, steps_per_interval=6, search=("int8",), gather_examples=True),
        evaluation(caption="few", metrics=("hit@1",), query_sample_size=4),
        BestModelCheckpoint(monitor="sentence-transformers_reciprocal_rank"),
        EarlyStopping(monitor="search_recall[int8]", patience=9),
        WiSEFTCallback(alpha="sweep"),
    ]
    run = fit(callbacks, eval_data=TRAIN[:16], epochs=2)
    assert run.wait() == "SUCCEEDED", run.logs()
    history, events = run.history(), list(run.events())
    log = run.logs()

    # Objects hear the specified order.
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    validation = ["on_val_begin", *["on_val_batch_begin", "on_val_batch_end"] * 2, "on_val_end"]
    epoch = ["on_epoch_begin", "on_train_epoch_begin", *batch * 16, "on_train_epoch_end", *validation, "on_epoch_end"]
    assert listener.heard == ["on_fit_begin", *epoch * 2, "on_fit_end"]

    # Within epochs: after 6 and 12 of 16 batches, by the evaluation that asks for it, and nothing decided on it.
    measured = [event for event in events if event.WhichOneof("kind") == "metrics_measured"]
    intervals = [each for each in measured if each.metrics_measured.stage == event_pb2.STAGE_INTERVAL]
    assert sorted((each.epoch, each.step) for each in intervals) == [(1, 6), (1, 12), (2, 22), (2, 28)]
    assert all("few_sentence-transformers_hit@1" not in each.metrics_measured.metrics.values for each in intervals)
    assert all(METRIC in each.metrics_measured.metrics.values for each in intervals)
    assert len(history.decisions) == 2 * 2
    for each in history.epochs:
        assert each.metrics["few_sentence-transformers_hit@1"] in (0, 0.25, 0.5, 0.75, 1)
        assert 0 < each.metrics["sentence-transformers_search_recall[int8]"] <= 1
        assert f"{METRIC}[int8]" in each.metrics

    # The sweep: eleven mixes, the ends are the models before and after, the best is what the user gets.
    tried = {
        float(line.split()[2].rstrip(":")): float(line.split()[-1]) for line in log.splitlines() if ": sentence" in line
    }
    assert sorted(tried) == [n / 10 for n in range(11)]
    kept = next(each for each in history.epochs if each.epoch == history.artifact_epoch)
    assert tried[0.0] == pytest.approx(history.before[METRIC], abs=6e-6)
    assert tried[1.0] == pytest.approx(kept.metrics[METRIC], abs=6e-6)
    assert history.after[METRIC] == pytest.approx(max(tried.values()), abs=6e-6)
    assert "Mixed pre-trained and fine-tuned weights with alpha" in log


def test_the_artifact_is_what_after_measured(stack: Stack, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    callbacks = [evaluation(), WiSEFTCallback(alpha=0.0), BestModelCheckpoint(monitor="reciprocal_rank")]
    run = fit(callbacks, epochs=1)
    assert run.wait() == "SUCCEEDED", run.logs()
    home = Path(os.environ["TUNEVANE_HOME"])
    for event in run.events():
        for file in event.checkpoint_saved.weights.files:
            trainers, evaluators = (
                home / service / "blobs" / file.blob.blake3[:2] / file.blob.blake3
                for service in ("trainer", "evaluator")
            )
            assert trainers.samefile(evaluators), "checkpoints are not sent where services share a disk"
    folder = run.save_artifact(tmp_path)
    again = fit([evaluation()], model=folder, epochs=1, learning_rate=1e-9)
    assert again.wait() == "SUCCEEDED", again.logs()
    # The folder, measured as a model that a new run begins with, gives the same numbers to the bit.
    assert again.metrics()["before"] == run.metrics()["after"] == run.metrics()["before"]
    texts = [each["text"] for each in [*QUERIES, *INDEX]]
    assert SentenceTransformer(str(folder), device="cpu").encode(texts).shape == (32, 16)
    assert json.loads((folder / "metrics.json").read_text())["after"] == run.metrics()["after"]


def test_a_lag_changes_no_decision_and_drops_what_was_trained_too_much(stack: Stack) -> None:
    def stopping(**options: object) -> list[Callback]:
        monitor = "reciprocal_rank"
        # Nothing beats the baseline, so the second epoch is the last.
        return [
            evaluation(**options),
            BestModelCheckpoint(monitor=monitor, mode="min"),
            EarlyStopping(monitor=monitor, patience=2, baseline=2.0),
        ]

    at_once = fit(stopping(), epochs=5)
    lagging = fit(stopping(asynchronous=True, max_lag=2, query_sample_size=20), epochs=5)
    assert [at_once.wait(), lagging.wait()] == ["SUCCEEDED"] * 2, lagging.logs()
    assert [len(run.history().epochs) for run in (at_once, lagging)] == [2, 4]
    assert "Dropped 2 epochs trained while epoch 2 was measured" in lagging.logs()
    decisions, epochs, *rest = concluded(at_once)
    lagging_decisions, lagging_epochs, *lagging_rest = concluded(lagging)
    assert lagging_decisions == decisions
    assert lagging_epochs[:2] == epochs  # type: ignore[index]  # a list of what epochs measured
    assert lagging_rest == rest


def test_a_plug_in_lives_in_the_worker(
    stack: Stack, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunevane import plugins

    monkeypatch.syspath_prepend(str(package))
    plugins._registered.cache_clear()
    import diary  # type: ignore[import-not-found]  # it was written above

    path = tmp_path / "diary.txt"
    run = fit([diary.Diary(path=str(path))], epochs=1)
    assert run.wait() == "SUCCEEDED", run.logs()
    words = path.read_text().splitlines()
    assert words[:3] == ["on_fit_begin", "on_epoch_begin", "on_train_epoch_begin"]
    assert words.count("on_train_batch_end") == 16
    assert words[-1] == "on_fit_end"
    with pytest.raises(InvalidRequestError, match="unknown option 'pth'"):
        fit([diary.Diary(path=str(path))], model_options={"pth": 1})
    monkeypatch.undo()
    plugins._registered.cache_clear()


def test_a_tracker_that_is_gone_for_ever_is_not_noticed(stack: Stack) -> None:
    tracker = process(stack, *TRACKER)
    tracker.suspend()
    try:
        run = fit([evaluation()], epochs=1)
        assert run.wait() == "SUCCEEDED", run.logs()
        assert run.metrics()["after"]
    finally:
        tracker.resume()
