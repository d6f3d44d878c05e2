"""The honest sentence, and numbers that never read 0.000."""

import pytest

from tunevane.api.type.v1 import event_pb2
from tunevane.core.transcript import Transcript, number
from tunevane.core.worse import worse


def test_it_is_said_when_retrieval_got_worse() -> None:
    said = worse({"mrr": 0.5, "recall": 0.4, "hit": 0.3}, {"mrr": 0.25, "recall": 0.35, "hit": 0.31, "new": 1.0})
    assert said == (
        "Retrieval got worse: 2 of 3 metrics fell, mrr the most, from 0.500 to 0.250;"
        " the model as it was before serves these queries better"
    )


@pytest.mark.parametrize(
    ("before", "after"), [({}, {"mrr": 0.1}), ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}), ({"a": 0.0}, {"a": 0.0})]
)
def test_nothing_is_said_when_it_did_not(before: dict[str, float], after: dict[str, float]) -> None:
    assert worse(before, after) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (13.986, "13.986"),
        (0.5, "0.500"),
        (0.0004137, "0.000414"),
        (-0.012, "-0.0120"),
        (0.0, "0.000"),
        (3e-9, "3.00e-09"),
    ],
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert number(value) == text
    assert number(float("nan")) == "nan"


def test_the_line_of_an_epoch_is_the_one_that_users_know() -> None:
    transcript = Transcript()
    started = event_pb2.Event(run_started=event_pb2.RunStarted(epochs=5))
    ended = event_pb2.Event(
        epoch=5, epoch_ended=event_pb2.EpochEnded(train_loss=13.986, val_loss=2.797, batches=48, val_batches=1)
    )
    ended.event_time.seconds = 12
    assert transcript.lines(started) == []
    bar = "━" * 40
    assert transcript.lines(ended) == [f"Training [5/5] {bar} 48/48 0:00:00 0:00:12 • loss: 13.986 • val_loss: 2.797"]
