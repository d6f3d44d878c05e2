"""Asynchronous evaluation decides as the synchronous run does, whatever answers do and whenever it is cut."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.callback import BestModelCheckpoint, EarlyStopping, EvaluationCallback
from tunevane.callback.base import Decision
from tunevane.callback.schedule import Schedule, States
from tunevane_trainer.training.lag import Decided, Pending

METRIC = "minilm_reciprocal_rank"


def schedule(patience: int) -> Schedule:
    callbacks = [
        EvaluationCallback(query_data="queries"),
        EarlyStopping(monitor="reciprocal_rank", patience=patience),
        BestModelCheckpoint(monitor="reciprocal_rank"),
    ]
    return Schedule(callbacks, "minilm", with_val_loss=False)


@dataclass
class Outcome:
    """What a run concluded."""

    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    trained: int = 0
    kept: int = 0


def synchronous(plan: Schedule, scores: list[float]) -> Outcome:
    outcome, states = Outcome(), plan.initial()
    for epoch, score in enumerate(scores, start=1):
        states, decisions = plan.decide(states, epoch, {"train_loss": 1.0, METRIC: score})
        outcome.decisions.extend((epoch, decision) for decision in decisions)
        outcome.trained = epoch
        if any(decision.verdict == "stop" for decision in decisions):
            break
    outcome.kept = plan.best_epoch(states) or outcome.trained
    return outcome


class Disturbed:
    """A run whose answers are late, early, reversed, doubled or lost, and which is cut now and then."""

    def __init__(self, plan: Schedule, scores: list[float], lag: int, dice: random.Random) -> None:
        self._plan, self._scores, self._lag, self._dice = plan, scores, lag, dice
        self.outcome = Outcome()
        # What the trainer service holds: epochs with the callbacks' states saved with them, and committed decisions.
        self._saved: list[tuple[int, States]] = [(0, plan.initial())]
        self._committed: set[int] = set()

    def run(self) -> Outcome:
        while not self._live():
            pass
        return self.outcome

    def _live(self) -> bool:
        """Goes on from the last saved epoch; tells whether the run ended rather than being cut."""
        decided, states = self._saved[-1]
        by_epoch: dict[int, States] = {decided: states}

        def decide(epoch: int, score: float) -> bool:
            after, decisions = self._plan.decide(by_epoch[epoch - 1], epoch, {"train_loss": 1.0, METRIC: score})
            by_epoch[epoch] = after
            if epoch not in self._committed:
                self._committed.add(epoch)
                self.outcome.decisions.extend((epoch, decision) for decision in decisions)
            return any(decision.verdict == "stop" for decision in decisions)

        pending = Pending(decide, Decided(decided))
        asked: list[int] = []
        epoch = len(self._saved) - 1
        for earlier in range(decided + 1, epoch + 1):
            pending.trained(earlier)
            asked.append(earlier)
        while True:
            if self._dice.random() < 0.03:
                return False
            following = epoch + 1
            over = following > len(self._scores) or pending.decided.ends_before(following, self._lag)
            if over and not pending.open:
                break
            if not over and not pending.decided.waits(following, self._lag) and self._dice.random() < 0.6:
                epoch = following
                pending.trained(epoch)
                asked.append(epoch)
                applied = max(epoch - 1 - self._lag, 0)
                self._saved.append((applied, by_epoch[applied]))
                self.outcome.trained = max(self.outcome.trained, epoch)
            elif asked:
                self._answer(pending, asked)
            else:
                asked.extend(pending.open)
        self.outcome.kept = self._plan.best_epoch(by_epoch[pending.decided.epoch]) or pending.decided.epoch
        return True

    def _answer(self, pending: Pending[float], asked: list[int]) -> None:
        epoch = self._dice.choice(asked)
        fate = self._dice.random()
        if fate > 0.25:
            pending.answered(epoch, self._scores[epoch - 1])
        if fate < 0.75:  # lost, or not to be sent again
            asked.remove(epoch)
        if not asked:
            asked.extend(pending.open)


def test_1000_random_schedules_decide_as_the_synchronous_run() -> None:
    stopped = overrun = 0
    for seed in range(1000):
        dice = random.Random(seed)
        plan = schedule(patience=dice.randint(1, 3))
        scores = [dice.choice([0.1, 0.2, 0.3, 0.4]) for _ in range(dice.randint(1, 9))]
        lag = dice.randint(0, 3)
        expected = synchronous(plan, scores)
        found = Disturbed(plan, scores, lag, dice).run()
        assert (found.decisions, found.kept) == (expected.decisions, expected.kept), f"seed {seed}"
        # How far training ran depends on the lag and the scores alone.
        assert found.trained == min(expected.trained + lag, len(scores)), f"seed {seed}"
        assert found.kept <= expected.trained
        stopped += expected.trained < len(scores)
        overrun += found.trained > expected.trained
    assert stopped > 300
    assert overrun > 200


@given(st.integers(0, 3), st.permutations(range(1, 7)), st.integers(1, 7))
@settings(deadline=None)
def test_conclusions_are_drawn_in_epoch_order_up_to_the_stop(lag: int, order: list[int], stop: int) -> None:
    heard: list[int] = []

    def decide(epoch: int, answer: str) -> bool:
        assert answer == f"answer {epoch}"
        heard.append(epoch)
        return epoch == stop

    pending = Pending(decide, Decided())
    for epoch in range(1, 7):
        pending.trained(epoch)
    for epoch in order:
        pending.answered(epoch, f"answer {epoch}")
        pending.answered(epoch, "a second answer")
    assert heard == list(range(1, min(stop, 6) + 1))
    assert not pending.open
    assert [pending.decided.ends_before(epoch, lag) for epoch in range(1, 12)] == [
        stop <= 6 and epoch >= stop + lag + 1 for epoch in range(1, 12)
    ]


def test_an_epoch_waits_for_the_decision_that_is_applied_there() -> None:
    pending = Pending[Mapping[str, float]](lambda epoch, answer: False, Decided())
    assert not pending.decided.waits(1, 1)
    pending.trained(1)
    assert not pending.decided.waits(2, 1)
    pending.trained(2)
    assert pending.decided.waits(3, 1)
    pending.answered(2, {})
    assert pending.decided.waits(3, 1)
    pending.answered(1, {})
    assert not pending.decided.waits(4, 1)
    with pytest.raises(ValueError, match="cannot follow epoch 2"):
        pending.trained(4)
