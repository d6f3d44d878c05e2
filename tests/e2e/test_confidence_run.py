"""Decisions with a confidence in a real run: what they tell, and that a lost worker changes none of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tunevane
from support.stack import WORKER, kill, local_services
from tunevane.api.type.v1 import event_pb2
from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback
from tunevane.errors import InvalidRequestError
from tunevane.local.stack import Stack

WORDS = [f"{colour} {thing}" for colour in ("red", "blue", "old", "big") for thing in ("car", "tree", "dog", "cup")]
QUERIES = [{"id": f"q{n}", "text": f"what is a {text}?", "label": text} for n, text in enumerate(WORDS)]
INDEX = [{"id": f"d{n}", "text": text[::-1], "label": text} for n, text in enumerate(WORDS)]
TRAIN = [{"query": f"what is a {text}?", "document": text[::-1]} for text in WORDS] * 8
METRIC = "minilm_reciprocal_rank"


def fit(sample: int) -> tunevane.Run:
    """Starts a small run; a `sample` of more than all queries changes nothing but that nothing is remembered."""
    return tunevane.fit(
        model="minilm",
        model_options={"layers": 2, "max_seq_length": 16},
        train_data=TRAIN,
        epochs=6,
        batch_size=8,
        learning_rate=3e-4,
        seed=3,
        callbacks=[
            EvaluationCallback(query_data=QUERIES, index_data=INDEX, limit=10, query_sample_size=sample),
            EarlyStopping(monitor="reciprocal_rank", patience=1, confidence=0.9),
            BestModelCheckpoint(monitor="reciprocal_rank", confidence=0.9),
        ],
    )


def of_kind(run: tunevane.Run, kind: str) -> list[event_pb2.Event]:
    return [event for event in run.events() if event.WhichOneof("kind") == kind]


def decided(run: tunevane.Run) -> list[object]:
    events = [*of_kind(run, "decision_made"), *of_kind(run, "metrics_measured")]
    return [[event.epoch, str(event.decision_made), str(event.metrics_measured)] for event in events]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with local_services(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> tunevane.Run:
    run = fit(100)
    assert run.wait() == "SUCCEEDED", run.logs()
    return run


def test_decisions_carry_interval_estimate_and_what_is_kept(undisturbed: tunevane.Run) -> None:
    made = [event.decision_made for event in of_kind(undisturbed, "decision_made")]
    selections = [each for each in made if each.callback == "best-model-checkpoint"]
    stops = [each for each in made if each.callback.startswith("early-stopping")]
    epochs = len(undisturbed.history().epochs)
    assert len(selections) == len(stops) == epochs
    for first, *later in (selections, stops):
        assert not first.HasField("interval")
        assert all(each.interval.low <= each.difference <= each.interval.high for each in later)
        assert {each.interval.confidence for each in later} == {0.9}
    assert [each.HasField("estimate") for each in selections] == [True] * epochs
    assert selections[0].slot == 0
    assert selections[-1].best_epoch == undisturbed.history().artifact_epoch


def test_the_artifact_is_the_epoch_with_the_best_estimate(undisturbed: tunevane.Run) -> None:
    history = undisturbed.history()
    kept = history.epochs[history.artifact_epoch - 1].metrics[METRIC]
    assert history.after[METRIC] == kept


def test_the_log_says_once_what_the_queries_cannot_tell(undisturbed: tunevane.Run) -> None:
    lines = [line for line in undisturbed.logs().splitlines() if "are noise" in line]
    assert len(lines) == 1
    assert lines[0].startswith("INFO  with 16 queries, differences under ")
    assert lines[0].endswith(f" points of {METRIC} are noise")
    log = undisturbed.logs()
    assert log.index("Training [1/6]") < log.index("are noise") < log.index("Training [2/6]")


def test_every_measurement_but_the_first_tells_what_changed(undisturbed: tunevane.Run) -> None:
    before, *others = [event.metrics_measured for event in of_kind(undisturbed, "metrics_measured")]
    assert not before.intervals
    for measured in others:
        assert set(measured.intervals) == set(measured.metrics.values)
        interval = measured.intervals[METRIC]
        change = measured.metrics.values[METRIC] - before.metrics.values[METRIC]
        assert interval.low <= change <= interval.high


def test_a_lost_worker_changes_no_decision(undisturbed: tunevane.Run, stack: Stack) -> None:
    run = fit(101)
    for event in run.events(follow=True):
        if event.WhichOneof("kind") == "step_reported" and event.epoch == 2:
            break
    kill(stack, *WORKER)
    assert run.wait() == "SUCCEEDED", run.logs()
    assert run.history().restarts == 1
    assert decided(run) == decided(undisturbed)
    assert run.artifact_id == undisturbed.artifact_id
    assert run.logs().count("are noise") == 1


def test_a_confidence_that_cannot_work_is_refused_at_once(stack: Stack) -> None:
    callbacks = [EarlyStopping(monitor="loss", confidence=0.9), BestModelCheckpoint(monitor="loss", confidence=0.5)]
    with pytest.raises(InvalidRequestError) as caught:
        tunevane.fit(train_data=TRAIN, callbacks=callbacks)
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["callbacks[0].confidence", "callbacks[1].confidence"]
    assert "add an EvaluationCallback and monitor its metric" in str(caught.value)
