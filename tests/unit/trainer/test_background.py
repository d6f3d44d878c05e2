"""What happens to epochs away from the training thread: when that thread waits, what it hears, how all of it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import CancelledError, EvaluationFailedError
from tunevane_trainer.training.background import Background
from tunevane_trainer.training.lag import Decided

WEIGHTS = blob_pb2.Bundle()


class Run:
    """An evaluator whose answers come when the test says so."""

    def __init__(self, lag: int, stop_after: int = 99) -> None:
        self.answers = {epoch: threading.Event() for epoch in range(1, 10)}
        self.asked = {epoch: threading.Event() for epoch in range(1, 10)}
        self.heard: list[int] = []
        self.stored: list[int] = []
        self.stopping = threading.Event()
        self.failure: Exception | None = None
        self.background: Background[str] = Background(lag, self._measure, self._decide, Decided(), self.stopping.is_set)
        self._stop_after = stop_after

    def _measure(self, epoch: int, weights: blob_pb2.Bundle) -> str:
        self.asked[epoch].set()
        while not self.answers[epoch].wait(0.01):
            if self.stopping.is_set() or self.background.over:
                raise CancelledError("nobody waits")
        if self.failure is not None:
            raise self.failure
        return f"answer {epoch}"

    def _decide(self, epoch: int, answer: str) -> bool:
        assert answer == f"answer {epoch}"
        self.heard.append(epoch)
        return epoch == self._stop_after

    def train(self, *epochs: int) -> None:
        for epoch in epochs:
            assert self.background.wait(epoch)
            self.background.submit(epoch, lambda epoch=epoch: self._store(epoch))  # type: ignore[misc]

    def _store(self, epoch: int) -> blob_pb2.Bundle:
        self.stored.append(epoch)
        return WEIGHTS


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run(lag=1, stop_after=3)
    yield made
    made.stopping.set()
    made.background.close()


def waits(run: Run, epoch: int) -> bool:
    """Tells whether an epoch has to wait: it is under way only after the answer that it needs."""
    return run.background.decided.waits(epoch, run.background.lag)


def test_training_goes_on_up_to_the_lag_and_then_waits(run: Run) -> None:
    run.train(1, 2)
    assert waits(run, 3)
    passed = threading.Event()

    def third() -> None:
        run.train(3)
        passed.set()

    thread = threading.Thread(target=third)
    thread.start()
    # The answer of the second epoch comes first and lets nothing pass.
    run.answers[2].set()
    assert run.asked[2].wait(5)
    assert not passed.is_set()
    run.answers[1].set()
    assert passed.wait(5)
    thread.join()
    assert run.heard[0] == 1


def test_a_stop_is_heard_one_lag_later_and_ends_everything(run: Run) -> None:
    for answer in run.answers.values():
        answer.set()
    run.train(1, 2, 3, 4)
    assert not run.background.wait(5)
    run.background.drain(4)
    assert run.heard == [1, 2, 3]
    assert run.background.decided == Decided(3, stopped=True)


def test_the_end_waits_for_every_answer(run: Run) -> None:
    run.train(1, 2)
    run.answers[2].set()
    run.answers[1].set()
    run.background.drain(2)
    assert (run.heard, run.stored) == ([1, 2], [1, 2])
    assert run.background.decided == Decided(2)


def test_a_failure_is_raised_where_training_next_looks(run: Run) -> None:
    run.failure = EvaluationFailedError("no labels")
    run.train(1, 2)
    run.answers[1].set()
    with pytest.raises(EvaluationFailedError, match="no labels"):
        run.background.wait(3)
    with pytest.raises(EvaluationFailedError, match="no labels"):
        run.background.raise_failure()


def test_a_run_that_is_to_stop_waits_for_nothing_but_what_is_being_stored(run: Run) -> None:
    run.train(1, 2)
    run.stopping.set()
    run.background.wait(3)
    run.background.close()
    assert run.stored == [1, 2]
    assert run.heard == []


def test_what_is_measured_for_the_record_is_waited_for_and_decides_nothing(run: Run) -> None:
    noted: list[blob_pb2.Bundle] = []
    for answer in run.answers.values():
        answer.set()
    run.train(1)
    run.background.aside(lambda: WEIGHTS, noted.append)
    run.background.drain(1)
    assert (noted, run.heard) == ([WEIGHTS], [1])
