"""What an event of metrics carries for those who have no files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunevane.api.type.v1 import event_pb2
from tunevane.core.examples import read, read_json
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training.measure import Measured

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
