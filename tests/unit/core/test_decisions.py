"""The decision rules against the specification's numbers, and cut anywhere."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunevane.core.decisions import BestModelRule, BestModelState, EarlyStoppingRule, EarlyStoppingState
from tunevane.core.monitor import direction, resolve

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())


def number(value: float | None) -> float:
    return math.nan if value is None else value


@pytest.mark.parametrize("case", CASES["early_stopping"])
def test_early_stopping_gives_the_specified_counters(case: dict[str, Any]) -> None:
    options = {"mode": "min"} | case["params"]
    rule = EarlyStoppingRule(**options)
    state, counters, stopped = EarlyStoppingState(), [], False
    for value in case["series"]:
        state, conclusion = rule.step(state, number(value), None)
        counters.append(state.wait)
        if conclusion.verdict == "stop":
            stopped = True
            break
    assert (len(counters), stopped, counters) == tuple(
        case["expect"][key] for key in ("epochs_run", "stopped", "counters")
    )


@pytest.mark.parametrize("case", CASES["best_checkpoint"])
def test_best_model_keeps_the_specified_epochs(case: dict[str, Any]) -> None:
    rule, state, saved, messages = BestModelRule(case["mode"]), BestModelState(), [], []
    for epoch, value in enumerate(case["series"], start=1):
        state, conclusion = rule.step(state, epoch, number(value))
        messages.append(conclusion.reason)
        if conclusion.verdict == "improved":
            saved.append(epoch)
    assert saved == case["expect_saved_epochs"]
    assert messages == case.get("messages", messages)
    assert state.best == case.get("expect_best", state.best)


def test_a_loss_that_is_not_finite_stops_at_once() -> None:
    _, conclusion = EarlyStoppingRule("max").step(EarlyStoppingState(), 0.5, math.nan)
    assert conclusion.verdict == "stop"
    _, conclusion = EarlyStoppingRule("max", check_finite=False).step(EarlyStoppingState(), 0.5, math.nan)
    assert conclusion.verdict == "improved"


def test_a_missing_value_leaves_the_counter_alone() -> None:
    state = EarlyStoppingState(0.5, 1)
    after, conclusion = EarlyStoppingRule("max").step(state, None, 0.1)
    assert (after, conclusion.verdict) == (state, "unmeasured")


@given(st.lists(st.floats(allow_infinity=True), max_size=12), st.integers(0, 12), st.sampled_from(["min", "max"]))
def test_cut_anywhere_and_restored_from_json_the_rest_is_the_same(series: list[float], cut: int, mode: Any) -> None:
    stopping, best = EarlyStoppingRule(mode, patience=3), BestModelRule(mode)
    whole: list[object] = []
    broken: list[object] = []
    for log, at in ((whole, -1), (broken, cut)):
        stop_state, best_state = EarlyStoppingState(), BestModelState()
        for epoch, value in enumerate(series, start=1):
            if epoch == at:
                stop_state = EarlyStoppingState(**json.loads(json.dumps(asdict(stop_state))))
                best_state = BestModelState(**json.loads(json.dumps(asdict(best_state))))
            stop_state, first = stopping.step(stop_state, value, None)
            best_state, second = best.step(best_state, epoch, value)
            log.append((first, second, stop_state.wait, best_state.epoch))
    assert whole == broken


def test_a_monitor_is_a_name_an_alias_or_an_unambiguous_suffix() -> None:
    measured = ["train_loss", "val_loss", "minilm_recall_at_k", "hard_minilm_recall_at_k", "minilm_ndcg@10"]
    assert resolve("loss", measured) == "train_loss"
    assert resolve("ndcg@10", measured) == "minilm_ndcg@10"
    assert resolve("minilm_recall_at_k", measured) == "minilm_recall_at_k"
    with pytest.raises(ValueError, match="write the full name"):
        resolve("recall_at_k", measured)
    with pytest.raises(ValueError, match="measured are: hard_minilm_recall_at_k, "):
        resolve("mrr", measured)
    assert [direction(name) for name in ("loss", "val_loss", "minilm_ndcg@10")] == ["min", "min", "max"]
