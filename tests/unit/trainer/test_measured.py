"""What an event of metrics carries for those who have no files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import component_pb2, event_pb2
from tunevane.callback import EvaluationCallback
from tunevane.core import bundles
from tunevane.core.examples import read, read_json
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training.measure import Measured, Meter
from tunevane_trainer.training.patience import Moment

EXAMPLES: dict[str, object] = {
    "minilm": {
        "queries": [
            {"id": "q", "text": "Katze", "results": [{"id": "d", "text": "cat", "score": 0.5, "relevant": True}]}
        ]
    }
}


@pytest.mark.parametrize("stage", [event_pb2.STAGE_BEFORE, event_pb2.STAGE_AFTER])
def test_examples_before_and_after_travel_in_the_event_too(tmp_path: Path, stage: event_pb2.Stage.ValueType) -> None:
    store = BlobStore(tmp_path)
    event = Measured({"minilm_hit_at_k": 1.0}, examples=EXAMPLES).event(stage, store)
    measured = event.metrics_measured
    assert json.loads(store.read(measured.examples)) == EXAMPLES
    assert read_json(measured.shown_examples) == read(EXAMPLES)


def test_those_of_every_epoch_are_files_only(tmp_path: Path) -> None:
    event = Measured({"minilm_hit_at_k": 1.0}, examples=EXAMPLES).event(event_pb2.STAGE_EPOCH, BlobStore(tmp_path))
    assert event.metrics_measured.HasField("examples")
    assert event.metrics_measured.shown_examples == b""


class Finds:
    """An evaluator that finds one picture."""

    def __init__(self, store: BlobStore) -> None:
        query = {"id": "q", "text": None, "image": "images/a.png", "results": list[object]()}
        found = {"queries": [query]}
        self.result = wire.EvaluationResult(examples=store.put_bytes(json.dumps(found).encode()))

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        return self.result


def test_pictures_of_examples_travel_too(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    query_data = bundles.make({"images/a.png": store.put_bytes(content.getvalue())})
    callback = EvaluationCallback(query_data="queries.csv", gather_examples=True)
    component = component_pb2.Component(name="evaluation", attachments={"query_data": query_data})
    run = run_pb2.Run(name="runs/some-run")
    run.spec.model.name = "minilm"
    measured = Meter(Finds(store), store, run, [(callback, component)]).measure(query_data, Moment(1, 1))
    event = measured.event(event_pb2.STAGE_AFTER, store).metrics_measured
    for document in (store.read(event.examples), event.shown_examples):
        (query,) = read_json(document)["minilm"]
        assert query.image.startswith("data:image/jpeg;base64,")
