"""Early stopping and selection that know the noise: bounds that always hold, cut anywhere, and worth their cost."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.core.confidence import (
    CANDIDATES,
    ConfidentSelection,
    ConfidentSelectionState,
    ConfidentStopping,
    ConfidentStoppingState,
)
from tunevane.core.decisions import EarlyStoppingRule, EarlyStoppingState
from tunevane.core.epoch_values import REMEMBERED, EpochValues, Memory
from tunevane.core.quality import Measurement, estimate
from tunevane.core.statistics import Floats
from tunevane.errors import InvalidRequestError


def run_of(seed: int, epochs: int, queries: int, mode: str = "max") -> Floats:
    """Draws values by query [epochs, q] of a run that rises, peaks and falls."""
    random = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    truth = 0.4 + 0.2 * (1 - np.exp(-epoch / 2)) - 0.01 * np.maximum(epoch - random.uniform(2, 8), 0)
    deviation = np.cumsum(0.1 * random.standard_normal((epochs, queries)), axis=0)
    values: Floats = truth[:, None] + 0.2 * random.standard_normal(queries) + deviation
    return values if mode == "max" else -values


def measured(values: Floats, epoch: int) -> EpochValues:
    return EpochValues.of(epoch, float(values[epoch - 1].mean()), values[epoch - 1])


def stopped_after(values: Floats, rule: EarlyStoppingRule, confidence: float) -> int:
    state = ConfidentStoppingState()
    for epoch in range(1, len(values) + 1):
        state, conclusion, _ = ConfidentStopping(rule, confidence).step(state, measured(values, epoch), None)
        if conclusion.verdict == "stop":
            return epoch
    return len(values)


def plain_stop(values: Floats, rule: EarlyStoppingRule) -> int:
    state = EarlyStoppingState()
    for epoch, value in enumerate(values.mean(axis=1), 1):
        state, conclusion = rule.step(state, float(value), None)
        if conclusion.verdict == "stop":
            return epoch
    return len(values)


RUNS = st.tuples(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1, 2, 7, 40]))
MODES: Any = st.sampled_from(["min", "max"])


@settings(max_examples=60, deadline=None)
@given(RUNS, MODES, st.integers(1, 3), st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from([0.5, 0.95]))
def test_training_is_never_shorter_than_with_patience_and_never_longer_by_more_than_it(
    run: tuple[int, int, int], mode: Any, patience: int, min_delta: float, confidence: float
) -> None:
    values = run_of(*run, mode)
    rule = EarlyStoppingRule(mode, patience, min_delta)
    plain, ours = plain_stop(values, rule), stopped_after(values, rule, confidence)
    assert plain <= ours <= plain + patience


@settings(max_examples=40, deadline=None)
@given(RUNS, MODES, st.integers(0, 12), st.sampled_from([None, 0.5]))
def test_cut_anywhere_and_restored_from_json_the_rest_is_the_same(
    run: tuple[int, int, int], mode: Any, cut: int, baseline: float | None
) -> None:
    values = run_of(*run, mode)
    stopping = ConfidentStopping(EarlyStoppingRule(mode, 2, baseline=baseline), 0.9)
    selection = ConfidentSelection(mode, 0.9)
    logs: list[list[object]] = []
    for at in (-1, cut):
        stop, select = ConfidentStoppingState(), ConfidentSelectionState()
        log: list[object] = []
        for epoch in range(1, len(values) + 1):
            if epoch == at:
                stop = ConfidentStoppingState.from_json(json.loads(json.dumps(stop.to_json())))
                select = ConfidentSelectionState.from_json(json.loads(json.dumps(select.to_json())))
            stop, *first = stopping.step(stop, measured(values, epoch), 0.1)
            select, second = selection.step(select, measured(values, epoch))
            log.append((first, second, stop.to_json(), select.to_json()))
        logs.append(log)
    assert logs[0] == logs[1]


@settings(max_examples=40, deadline=None)
@given(RUNS, MODES)
def test_the_epoch_that_is_held_is_always_kept(run: tuple[int, int, int], mode: Any) -> None:
    values = run_of(*run, mode)
    state, kept = ConfidentSelectionState(), {}
    for epoch in range(1, len(values) + 1):
        state, selected = ConfidentSelection(mode, 0.95).step(state, measured(values, epoch))
        if selected.slot is not None:
            kept[selected.slot] = epoch
        # What a follower of the decisions keeps is what the state counts on.
        assert kept == {slot: each.epoch for slot, each in state.candidates.items()}
        assert state.epoch in kept.values()
        assert len(kept) <= CANDIDATES
        assert (selected.conclusion.verdict == "improved") == (state.epoch == epoch)


def test_a_change_of_mind_says_so() -> None:
    random = np.random.default_rng(1)
    shared = 0.3 * random.standard_normal(60)
    means = [0.40, 0.50, 0.54, 0.55, 0.58, 0.47, 0.44, 0.40]
    values = np.stack([mean + shared + 0.25 * random.standard_normal(60) for mean in means])
    values += np.array(means)[:, None] - values.mean(axis=1, keepdims=True)
    state, reasons = ConfidentSelectionState(), []
    for epoch in range(1, 9):
        state, selected = ConfidentSelection("max", 0.95).step(state, measured(values, epoch))
        reasons.append(selected.conclusion.reason)
    assert reasons[0] == "Model improved from -inf to 0.400!"
    assert state.epoch == 4
    assert any(reason.startswith("Epoch 4 now looks better than epoch 5: estimated 0.5") for reason in reasons)
    assert reasons[-1] == "Model did not improve"


def test_queries_that_all_agree_leave_the_plain_rules() -> None:
    values = np.array([[0.1], [0.3], [0.2], [0.25], [0.29], [0.3]]) * np.ones(20)
    assert stopped_after(values, EarlyStoppingRule("max", 2), 0.95) == 4
    state = ConfidentSelectionState()
    for epoch in range(1, 7):
        state, _ = ConfidentSelection("max", 0.95).step(state, measured(values, epoch))
    assert state.epoch == 2


def test_a_loss_that_is_not_finite_stops_at_once_and_leaves_the_state() -> None:
    state = ConfidentStoppingState()
    after, conclusion, evidence = ConfidentStopping(EarlyStoppingRule("max"), 0.9).step(
        state, measured(run_of(0, 1, 5), 1), float("nan")
    )
    assert (after, conclusion.verdict, evidence) == (state, "stop", None)


def test_improved_means_proven_at_the_level() -> None:
    random = np.random.default_rng(0)
    base = random.random(100)
    better = base + 0.02 + 0.15 * random.standard_normal(100)
    rule = EarlyStoppingRule("max", 3)
    verdicts = {}
    for confidence in (0.2, 0.999):
        state, _, _ = ConfidentStopping(rule, confidence).step(
            ConfidentStoppingState(), EpochValues.of(1, base.mean(), base), None
        )
        state, conclusion, evidence = ConfidentStopping(rule, confidence).step(
            state, EpochValues.of(2, better.mean(), better), None
        )
        assert state.plain.wait == 0
        assert evidence is not None
        assert (conclusion.verdict == "improved") == (evidence.low > 0)
        verdicts[confidence] = conclusion.verdict
    assert verdicts == {0.2: "improved", 0.999: "not_improved"}


def test_a_baseline_is_what_has_to_be_beaten() -> None:
    values = 0.5 + 0.01 * run_of(0, 2, 50)
    stopping = ConfidentStopping(EarlyStoppingRule("max", 1, baseline=0.9), 0.95)
    state, conclusion, evidence = stopping.step(ConfidentStoppingState(), measured(values, 1), None)
    assert evidence is not None
    assert (evidence.standing, conclusion.verdict, state.plain.wait) == ("worse", "not_improved", 1)
    assert conclusion.reason.startswith("Patience ran out, but the next epoch may be better (")
    assert stopping.patience_left(state) == 0


def test_luck_is_told_from_quality_better_than_by_the_highest_mean() -> None:
    plain, ours = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        epoch = np.arange(1, 11)
        truth = 0.4 + 0.2 * (1 - np.exp(-epoch / 2)) - 0.02 * np.maximum(epoch - 4, 0)
        values = truth[:, None] + 0.3 * random.standard_normal(60) + 0.3 * random.standard_normal((10, 60))
        state = ConfidentSelectionState()
        for number in range(1, 11):
            state, _ = ConfidentSelection("max", 0.95).step(state, measured(values, number))
        plain.append(truth.max() - truth[values.mean(axis=1).argmax()])
        ours.append(truth.max() - truth[state.epoch - 1])
    assert np.mean(ours) < 0.7 * np.mean(plain)


def test_estimates_do_not_depend_on_unit_level_or_order_of_queries() -> None:
    values = run_of(3, 8, 30)
    plain = estimate([Measurement(n, row.mean(), row) for n, row in enumerate(values, 1)], 30)
    moved = 5.0 * values[:, ::-1] + 2.0
    other = estimate([Measurement(n, row.mean(), row) for n, row in enumerate(moved, 1)], 30)
    np.testing.assert_allclose(other.quality, 5.0 * plain.quality + 2.0, rtol=1e-9)
    np.testing.assert_allclose(other.chance, plain.chance, rtol=1e-9)


def test_with_many_queries_estimates_are_the_means() -> None:
    values = run_of(4, 8, 40)
    means = values.mean(axis=1)
    found = estimate([Measurement(n, row.mean(), row) for n, row in enumerate(values, 1)], 10_000_000)
    np.testing.assert_allclose(found.quality, means, atol=2e-4)


def test_long_runs_remember_the_latest_epochs_and_what_must_be_kept() -> None:
    memory = Memory()
    for epoch in range(1, 60):
        memory = memory.add(EpochValues.of(epoch, 0.5, np.array([0.4, 0.6])), 1.0, [2, 7])
    assert [each.epoch for each in memory.measured] == [2, 7, *range(60 - REMEMBERED + 2, 60)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([]), "epoch 2 has values for 0 queries and there were 3 before"),
        (np.array([1.0, 2.0]), "epoch 2 has values for 2 queries and there were 3 before"),
        (np.array([1.0, np.nan, 2.0]), "epoch 2 has a query whose value is not finite"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(values: Floats, words: str) -> None:
    memory = Memory().add(EpochValues.of(1, 0.5, np.array([0.1, 0.2, 0.3])), 1.0, [])
    with pytest.raises(InvalidRequestError, match=words):
        memory.add(EpochValues.of(2, 0.5, values), 1.0, [])
