"""What can be known of a run before it starts is said at once, each problem with its field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2
from tunevane.callback import EvaluationCallback
from tunevane.callback.components import component
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError
from tunevane.nn import models
from tunevane_trainer import validation

BUNDLE = bundles.make({"items.jsonl": blob_pb2.BlobRef(blake3="a" * 64, size_bytes=3)})


def problems(*callbacks: tuple[str, Mapping[str, object]], **spec: object) -> dict[str, str]:
    """Returns what is said about a run, by field."""
    components = [
        component(name, options, {"query_data": BUNDLE} if name == "evaluation" else {}) for name, options in callbacks
    ]
    asked = {"model": component("minilm", {}), "train_data": BUNDLE, "callbacks": components} | spec
    try:
        validation.check(run_pb2.RunSpec(**asked))  # type: ignore[arg-type]  # fields by name
    except InvalidRequestError as error:
        return {problem.field: problem.message for problem in error.problems}
    return {}


def test_all_problems_are_said_at_once() -> None:
    found = problems(
        ("wise-ft", {"alpha": 1.5}),
        ("early-stopping", {"patience": 0, "min_delta": -1}),
        ("evaluation", {"distance": "dotty", "limit": 0, "max_lag": 101, "steps_per_interval": 0}),
        ("early-stoping", {}),
        model=component("minilm", {"layers": 9}),
        epochs=-1,
        batch_size=1,
        device="tpu",
    )
    assert set(found) >= {
        "callbacks[0].alpha",
        "callbacks[1].patience",
        "callbacks[1].min_delta",
        "callbacks[2].distance",
        "callbacks[3].name",
        "model.layers",
        "epochs",
        "batch_size",
        "device",
    }


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"limit": 0}, "limit", r"\[1, 1000\]"),
        ({"max_lag": 101, "asynchronous": True}, "max_lag", r"\[0, 100\]"),
        ({"steps_per_interval": 0}, "steps_per_interval", "at least 1"),
        ({"search": "hnws:m=4"}, "search", "unknown part"),
        ({"search": ["int8", "int8"]}, "search", "given twice"),
        ({"model": "text"}, "model", "has one tower"),
        ({"index_model": "image"}, "index_model", "needs model"),
        ({"multi_modal": True}, "multi_modal", "model='text' and index_model='image'"),
        ({"model": "text", "index_model": "text", "multi_modal": True}, "multi_modal", "which differ"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused(options: Mapping[str, object], field: str, words: str) -> None:
    assert re.search(words, problems(("evaluation", options))[f"callbacks[0].{field}"])


def test_a_model_of_two_towers_needs_to_know_which_encodes_the_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    two = replace(models.find("minilm"), task="text-to-image")
    monkeypatch.setattr(models, "find", lambda name: two)
    assert problems(("evaluation", {})) == {
        "callbacks[0].model": "is needed: 'minilm' has two towers; give model='text' or 'image'"
    }
    assert problems(("evaluation", {"model": "text", "index_model": "imag"})) == {
        "callbacks[0].index_model": "must be 'text' or 'image', not 'imag'"
    }
    assert problems(("evaluation", {"model": "text"})) == {}
    assert problems(("evaluation", {"model": "text", "index_model": "image", "multi_modal": True})) == {}
    folder = replace(two, task="text-to-text, text-to-image")
    monkeypatch.setattr(models, "find", lambda name: folder)
    assert problems(("evaluation", {})) == problems(("evaluation", {"model": "text"})) == {}


def test_other_ways_to_search_can_be_monitored() -> None:
    evaluation = ("evaluation", {"search": ["exact", "int8"], "metrics": ["ndcg@10"]})
    assert problems(evaluation, ("best-model-checkpoint", {"monitor": "ndcg@10[int8]"})) == {}
    assert problems(evaluation, ("early-stopping", {"monitor": "search_recall[int8]"})) == {}
    refused = problems(evaluation, ("early-stopping", {"monitor": "search_recall[binary]"}))
    assert "minilm_search_recall[int8]" in refused["callbacks[1].monitor"]


def test_a_sweep_needs_something_to_choose_by() -> None:
    assert "add one" in problems(("wise-ft", {"alpha": "sweep"}))["callbacks[0].alpha"]
    assert problems(("wise-ft", {"alpha": "sweep"}), ("evaluation", {})) == {}
    assert problems(("wise-ft", {"alpha": "swep"}))["callbacks[0].alpha"].endswith("must be one of 'sweep', not 'swep'")


def test_the_number_of_workers_is_accepted_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="the evaluator reads, encodes and stores"):
        asked = EvaluationCallback(query_data=BUNDLE, num_workers=8)
    assert asked == EvaluationCallback(query_data=BUNDLE)
