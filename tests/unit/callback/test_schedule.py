"""Callbacks: the order of the list does not matter, and everything wrong is said at once."""

import itertools
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2
from tunevane.callback import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    TrainingCheckpoint,
    WandBLogger,
    WiSEFTCallback,
)
from tunevane.callback.components import component, from_component, to_component
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError

BUNDLE = bundles.make({"items.jsonl": blob_pb2.BlobRef(blake3="a" * 64, size_bytes=3)})


def attach(data: object, option: str) -> blob_pb2.Bundle:
    return BUNDLE


def five() -> list[Callback]:
    return [
        EvaluationCallback(query_data=BUNDLE),
        BestModelCheckpoint(monitor="average_precision"),
        EarlyStopping(monitor="recall_at_k", patience=1),
        EarlyStopping(monitor="train_loss"),
        WiSEFTCallback(alpha=0.5),
    ]


def play(callbacks: list[Callback], series: list[tuple[float, float, float]]) -> str:
    schedule = Schedule(callbacks, "minilm", with_val_loss=False)
    states: Any = schedule.initial()
    log: list[object] = [[callback.key for callback in schedule.measurers], schedule.measured]
    for epoch, (loss, precision, recall) in enumerate(series, start=1):
        measured = {"train_loss": loss, "minilm_average_precision": precision, "minilm_recall_at_k": recall}
        states, decisions = schedule.decide(states, epoch, measured)
        log.append([vars(decision) for decision in decisions])
    return json.dumps([log, states, schedule.best_epoch(states)])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3])] * 3), min_size=1, max_size=5))
def test_all_permutations_give_the_same_events_byte_for_byte(series: list[tuple[float, float, float]]) -> None:
    assert len({play(list(order), series) for order in itertools.permutations(five())}) == 1


def test_a_callback_survives_the_wire() -> None:
    given_callbacks: list[Callback] = [
        EvaluationCallback(query_data=BUNDLE, limit=7, metrics=("ndcg@10", "recall@1,5"), caption="hard"),
        EarlyStopping(monitor="ndcg@10", patience=4, min_delta=0.25, baseline=0.5),
        BestModelCheckpoint(monitor="loss", mode="min"),
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


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (component("erly-stopping", {}), "did you mean 'early-stopping'"),
        (component("early-stopping", {"pacience": 1}), "did you mean 'patience'"),
        (component("early-stopping", {"patience": 1.5}), "must be a whole number"),
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
