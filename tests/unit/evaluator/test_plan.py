"""Requests, checked and named by their content."""

from __future__ import annotations

import pytest

from support.models import minilm
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2, event_pb2
from tunevane.callback.components import component
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError
from tunevane_evaluator import plan as plans


def ref(letter: str) -> blob_pb2.BlobRef:
    return blob_pb2.BlobRef(blake3=letter * 64, size_bytes=10)


def request(**plan: object) -> wire.EvaluateRequest:
    data = bundles.make({"dataset.json": ref("a"), "items.jsonl": ref("b")})
    made = evaluation_pb2.EvaluationPlan(query_data=data, **plan)  # type: ignore[arg-type]  # fields by name
    return wire.EvaluateRequest(model=minilm(), checkpoint=bundles.make({"w.safetensors": ref("c")}), plan=made)


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"limit": 1},
        {"limit": 1000, "metrics": ["ndcg@10", "recall@1,10,1000"], "example_count": 1000, "batch_size": 4096},
        {"distance": evaluation_pb2.DISTANCE_EUCLIDEAN, "tie_policy": evaluation_pb2.TIE_POLICY_POSITION},
    ],
)
def test_what_can_work_is_accepted(plan: dict[str, object]) -> None:
    plans.check(request(**plan))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"limit": -1}, "plan.limit: must be in [1, 1000], not -1"),
        ({"limit": 1_000_000}, "plan.limit: must be in [1, 1000], not 1000000"),
        ({"example_count": 1001}, "plan.example_count: must be in [0, 1000], not 1001"),
        ({"query_sample_size": -2}, "plan.query_sample_size: must be in"),
        ({"batch_size": -1}, "plan.batch_size: must be in [0, 4096], not -1"),
        ({"distance": 99}, "plan.distance: has the unknown value 99"),
        ({"tie_policy": 99}, "plan.tie_policy: has the unknown value 99"),
        ({"precision": 99}, "plan.precision: has the unknown value 99"),
        ({"metrics": ["ndcg"]}, "plan.metrics: metric 'ndcg' needs a cut-off"),
        ({"metrics": ["ndcg@0"]}, "must be a whole number of at least 1"),
        ({"metrics": ["recall@10,1001"]}, "'recall@10,1001' looks at 1001 results; at most 1000 are fetched"),
        ({"metrics": ["beauty"]}, "plan.metrics: unknown metric 'beauty'"),
        ({"model": "tower"}, "plan.model: must be one of text, image, clip-text, clip-vision, not 'tower'"),
        ({"index_model": "left"}, "plan.index_model: must be one of text, image"),
        ({"index_data": blob_pb2.Bundle()}, "plan.index_data: a bundle has 1 to 10000 files"),
    ],
)
def test_what_cannot_work_is_refused(plan: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        plans.check(request(**plan))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_an_empty_request_is_refused_in_all_its_parts() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        plans.check(wire.EvaluateRequest())
    assert {problem.field for problem in caught.value.problems} == {"plan.query_data", "model.name"}


def test_the_key_is_of_what_the_result_depends_on() -> None:
    plain = request()
    named = request()
    named.run = "runs/x"
    named.cause.CopyFrom(event_pb2.Event(sequence=3))
    assert plans.key(named) == plans.key(plain)
    others = [request(limit=10), request(seed=1), request(metrics=["ndcg@10"]), request(exclude_self=True)]
    weights = request()
    weights.checkpoint.files[0].blob.CopyFrom(ref("d"))
    model = request()
    model.model.CopyFrom(minilm(layers=2))
    keys = {plans.key(each) for each in (plain, *others, weights, model)}
    assert len(keys) == 7


def test_every_file_is_needed() -> None:
    given = request(index_data=bundles.make({"dataset.json": ref("e")}))
    given.model.CopyFrom(component("sentence-transformers", {}, {"folder": bundles.make({"modules.json": ref("f")})}))
    assert {each.blake3[0] for each in plans.refs(given)} == set("abcef")
