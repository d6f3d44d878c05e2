"""Callbacks: the order of the list does not matter, and everything wrong is said at once."""

import itertools
import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.callback import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    TrainingCheckpoint,
    WandBLogger,
    WiSEFTCallback,
    compatibility,
)
from tunevane.callback.base import Measurements
from tunevane.callback.components import attempt, component, from_component, to_component
from tunevane.callback.events import decision_event
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError, Problem

BUNDLE = bundles.make({"items.jsonl": blob_pb2.BlobRef(blake3="a" * 64, size_bytes=3)})


def attach(data: object, option: str) -> blob_pb2.Bundle:
    return BUNDLE


QUERIES = 30
AVERAGE_PRECISION, RECALL = "minilm_average_precision", "minilm_recall_at_k"

Series = list[tuple[float, float, float]]
SERIES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3])] * 3), min_size=1, max_size=6)
"""Training loss, average precision and recall of some epochs."""


def five() -> list[Callback]:
    return [
        EvaluationCallback(query_data=BUNDLE),
        BestModelCheckpoint(monitor="average_precision", confidence=0.95),
        EarlyStopping(monitor="recall_at_k", patience=1, confidence=0.8),
        EarlyStopping(monitor="train_loss"),
        WiSEFTCallback(alpha=0.5),
    ]


def deciders() -> list[Callback]:
    return [
        EvaluationCallback(query_data=BUNDLE),
        BestModelCheckpoint(monitor="recall_at_k", confidence=0.95),
        EarlyStopping(monitor="average_precision", confidence=0.95, baseline=0.25),
        EarlyStopping(monitor="recall_at_k", patience=3, min_delta=0.05),
        EarlyStopping(monitor="train_loss", baseline=0.15),
    ]


def peers() -> list[Callback]:
    return [
        EvaluationCallback(query_data=BUNDLE),
        BestModelCheckpoint.like_keras("recall_at_k"),
        EarlyStopping.like_keras("average_precision", patience=2, baseline=0.25),
        EarlyStopping.like_lightning("recall_at_k", mode="max", patience=2),
        EarlyStopping.like_transformers("train_loss", early_stopping_patience=2, early_stopping_threshold=0.05),
    ]


def measurements(epoch: int, loss: float, precision: float, recall: float) -> Measurements:
    random = np.random.default_rng(epoch)
    per_query = {
        name: value + 0.1 * random.standard_normal(QUERIES)
        for name, value in ((AVERAGE_PRECISION, precision), (RECALL, recall))
    }
    return Measurements(
        {"train_loss": loss} | {name: float(values.mean()) for name, values in per_query.items()}, per_query
    )


def play(callbacks: list[Callback], series: Series, cut: int = 0) -> list[bytes]:
    """Returns what goes into the run's history, restoring the state from JSON before one epoch."""
    schedule = Schedule(callbacks, "minilm", with_val_loss=False)
    states: Any = schedule.initial()
    log = [json.dumps([[callback.key for callback in schedule.measurers], schedule.measured]).encode()]
    for epoch, row in enumerate(series, start=1):
        if epoch == cut:
            states = json.loads(json.dumps(states))
        states, decisions = schedule.decide(states, epoch, measurements(epoch, *row))
        log += [decision_event(decision).SerializeToString(deterministic=True) for decision in decisions]
    return [*log, json.dumps([states, schedule.best_epoch(states), sorted(schedule.kept_epochs(states))]).encode()]


@settings(max_examples=3, deadline=None)
@given(SERIES)
def test_all_permutations_give_the_same_events_byte_for_byte(series: Series) -> None:
    first = play(five(), series)
    for order in itertools.permutations(five()):
        assert play(list(order), series) == first


@settings(max_examples=25, deadline=None)
@given(SERIES, st.integers(1, 6), st.sampled_from([deciders, peers]))
def test_cut_anywhere_and_restored_every_decider_goes_on_the_same(
    series: Series, cut: int, callbacks: Callable[[], list[Callback]]
) -> None:
    assert play(callbacks(), series, cut) == play(callbacks(), series)


def test_an_epoch_without_metrics_changes_no_state() -> None:
    schedule = Schedule(deciders(), "minilm", with_val_loss=False)
    states, _ = schedule.decide(schedule.initial(), 1, measurements(1, 0.1, 0.2, 0.3))
    after, decisions = schedule.decide(states, 2, {"train_loss": 0.2})
    verdicts = {decision.callback: decision.verdict for decision in decisions}
    assert verdicts.pop("early-stopping/train_loss") == "not_improved"
    assert set(verdicts.values()) == {"unmeasured"}
    assert {key: after[key] for key in verdicts} == {key: states[key] for key in verdicts}
    assert schedule.best_epoch(after) == 1


def test_decisions_with_a_confidence_become_events() -> None:
    schedule = Schedule([*five()[:2]], "minilm", with_val_loss=False)
    states, _ = schedule.decide(schedule.initial(), 1, measurements(1, 0.1, 0.2, 0.3))
    _, (decision,) = schedule.decide(states, 2, measurements(2, 0.1, 0.5, 0.3))
    made = decision_event(decision).decision_made
    assert made.verdict == event_pb2.VERDICT_IMPROVED
    assert made.interval.low < made.difference < made.interval.high
    assert made.interval.confidence == 0.95
    assert (made.best_epoch, made.slot) == (2, 1)
    assert made.estimate == pytest.approx(made.value, abs=0.1)
    _, (plain,) = Schedule([BestModelCheckpoint(monitor="loss")], "minilm", with_val_loss=False).decide(
        {"best-model-checkpoint": {"best": None, "epoch": 0}}, 1, {"train_loss": 0.5}
    )
    made = decision_event(plain).decision_made
    assert [made.HasField(name) for name in ("interval", "difference", "estimate", "slot")] == [False] * 4
    assert made.best_epoch == 1


def test_a_callback_survives_the_wire() -> None:
    given_callbacks: list[Callback] = [
        EvaluationCallback(query_data=BUNDLE, limit=7, metrics=("ndcg@10", "recall@1,5"), caption="hard"),
        EarlyStopping(monitor="ndcg@10", patience=4, min_delta=0.25, baseline=0.5),
        BestModelCheckpoint(monitor="loss", mode="min"),
        BestModelCheckpoint(monitor="ndcg@10", min_delta=0.01, confidence=0.9),
        BestModelCheckpoint.like_lightning("loss"),
        EarlyStopping.like_keras("loss", baseline=0.5),
        TrainingCheckpoint(last_k_epochs=3),
        WiSEFTCallback(alpha=0.0),
        WandBLogger(wandb_args={"project": "x"}),
    ]
    for callback in given_callbacks:
        assert from_component(to_component(callback, attach), "callbacks[0]") == callback


def test_everything_wrong_is_said_at_once_each_naming_its_field() -> None:
    message = component("early-stopping", {"patience": 0, "min_delta": -1, "mode": "min"})
    with pytest.raises(InvalidRequestError) as caught:
        from_component(message, "callbacks[2]")
    assert [problem.field for problem in caught.value.problems] == ["callbacks[2].patience", "callbacks[2].min_delta"]


def test_callbacks_that_fit_are_checked_against_each_other_even_where_one_does_not_fit() -> None:
    messages = [
        component("evaluation", {"limit": 0}, {"query_data": BUNDLE}),
        component("early-stopping", {"patience": 0, "monitor": "train_loss", "confidence": 0.9}),
        component("best-model-checkpoint", {}),
        component("best-model-checkpoint", {"monitor": "ndcg@10"}),
        component("training-checkpoint", {"last_k_epoch": 1}),
    ]
    found: list[Problem] = []
    built = []
    for position, message in enumerate(messages):
        callback, problems = attempt(message, f"callbacks[{position}]")
        built.append(callback)
        found += problems
    found += compatibility.problems(built, "minilm", compatibility.losses(with_val_loss=False))
    assert [problem.field for problem in found] == [
        "callbacks[0].limit",
        "callbacks[1].patience",
        "callbacks[4].last_k_epoch",
        "callbacks[3]",
        "callbacks",
        "callbacks[1].confidence",
        # Whether anything measures ndcg@10 depends on the evaluation, but nothing else could measure a loss.
        "callbacks[2].monitor",
    ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (component("erly-stopping", {}), "did you mean 'early-stopping'"),
        (component("early-stopping", {"pacience": 1}), "did you mean 'patience'"),
        (component("early-stopping", {"patience": 1.5}), "must be a whole number"),
        (
            component("early-stopping", {"convention": "lightning", "baseline": 1}),
            "is nothing that lightning",
        ),
        (component("early-stopping", {"convention": "keras", "confidence": 0.9}), "confidence: is nothing that keras"),
        (component("early-stopping", {"convention": "keras", "patience": -1}), "must be at least 0, not -1"),
        (
            component("best-model-checkpoint", {"convention": "keras", "min_delta": 1}),
            "is nothing that keras",
        ),
        (component("early-stopping", {"confidence": 1}), "confidence: must lie between 0 and 1, for example 0.95"),
        (component("best-model-checkpoint", {"confidence": 0}), "confidence: must lie between 0 and 1"),
        (component("early-stopping", {"mode": "up"}), "must be one of 'auto', 'min', 'max'"),
        (component("wise-ft", {"alpha": 1.5}), r"must be in \[0, 1\]"),
        (component("evaluation", {}), "query_data"),
        (component("evaluation", {"metrics": ["ndgc@10"]}, {"query_data": BUNDLE}), "unknown metric"),
        (component("evaluation", {"limit": 0}, {"query_data": BUNDLE}), "limit"),
        (component("evaluation", {"distance": "dot"}, {"query_data": BUNDLE}), "must be one of 'cosine'"),
    ],
)
def test_a_wrong_callback_gets_one_sentence(message: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        from_component(message, "callbacks[0]")


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([EarlyStopping()], "give eval_data, or monitor one of those"),
        ([BestModelCheckpoint(monitor="ndcg@10")], "measured are: train_loss"),
        ([EvaluationCallback(query_data=BUNDLE), EvaluationCallback(query_data=BUNDLE, limit=5)], "its own caption"),
        ([EarlyStopping(monitor="loss", confidence=0.9)], "'train_loss' has none; add an EvaluationCallback"),
        (
            [EvaluationCallback(query_data=BUNDLE), BestModelCheckpoint(monitor="loss", confidence=0.9)],
            "'train_loss' has none; monitor one of: minilm_precision_at_k",
        ),
        ([BestModelCheckpoint(monitor="loss"), BestModelCheckpoint(monitor="loss", mode="max")], "is there already"),
    ],
)
def test_callbacks_that_do_not_fit_together_are_refused(callbacks: list[Callback], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        Schedule(callbacks, "minilm", with_val_loss=False)


def test_minimum_delta_is_an_alias_that_warns() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert EarlyStopping(minimum_delta=0.5).min_delta == 0.5
    assert [str(each.message) for each in caught] == ["minimum_delta is called min_delta now"]


def test_metric_names_carry_caption_and_model() -> None:
    callback = EvaluationCallback(query_data=BUNDLE, caption="hard", metrics=("ndcg@10",))
    assert callback.measured("minilm") == ["hard_minilm_ndcg@10"]
    assert EvaluationCallback(query_data=BUNDLE, output_model_names=False).measured("minilm")[0] == "precision_at_k"
