"""Images and two towers through the service, and what a second evaluation does not do again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import evaluator_service as support
from support.vision import drawn, png
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.callback.components import component
from tunevane.core import bundles
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import DataFormatError, EvaluationFailedError, InvalidRequestError
from tunevane.nn import checkpoint, inputs, models
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig

COUNT = 12
TOWERS = component("two-towers", {"output_dim": 16, "text_options": {"layers": 1}, "image_options": {"image_size": 32}})


def request(store: BlobStore, scale: float = 1.0, **plan: Any) -> wire.EvaluateRequest:
    """Asks which of some images fits each of some texts; images are the queries' labels."""
    model = models.build(TOWERS)
    weights = {name: tensor * scale if "linear" in name else tensor for name, tensor in model.state_dict().items()}
    queries = [{"id": f"q{n}", "text": f"drawing number {n}", "label": n} for n in range(COUNT)]
    documents = [{"id": f"d{n}", "image": drawn(n), "label": n} for n in range(COUNT)]
    made = evaluation_pb2.EvaluationPlan(
        query_data=datasets.write(queries, store),
        index_data=datasets.write(documents, store),
        model="text",
        index_model="image",
        metrics=["mrr@10", "ndcg@10"],
        **plan,
    )
    return wire.EvaluateRequest(run="runs/test", model=TOWERS, checkpoint=checkpoint.save(weights, store), plan=made)


def test_texts_find_images_and_nothing_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path / "mine")
    config = EvaluatorConfig(port=0, state_dir=tmp_path / "state", drain_seconds=1)
    tokenised: list[int] = []
    decoded: list[str] = []
    kind: Any = type(models.build(TOWERS).tokenizer)
    call, opened = kind.__call__, inputs.Pictures.open

    def tokenise(self: object, texts: Any, **more: object) -> object:
        tokenised.append(len(texts))
        return call(self, texts, **more)

    def open_(self: inputs.Pictures, item: Item) -> Any:
        decoded.append(item.id)
        return opened(self, item)

    monkeypatch.setattr(kind, "__call__", tokenise)
    monkeypatch.setattr(inputs.Pictures, "open", open_)
    with support.running(config, store) as client:
        result = client.evaluate(request(store, example_count=3))
        examples = json.loads(client.read(result.examples))
        assert (tokenised, len(decoded)) == ([COUNT], COUNT)
        again = client.evaluate(request(store, 2.0, precision=evaluation_pb2.PRECISION_BF16))
    with support.running(config, store) as client:
        restarted = client.evaluate(request(store, 3.0))
    assert (tokenised, len(decoded)) == ([COUNT], COUNT)
    assert [each.precision for each in (result, again)] == [
        evaluation_pb2.PRECISION_FP32,
        evaluation_pb2.PRECISION_BF16,
    ]
    # Longer vectors have the same angles.
    assert restarted.metrics.values["mrr@10"] == pytest.approx(result.metrics.values["mrr@10"])
    # Every query has one relevant image, which is found at the rank that plain arithmetic gives it.
    model = models.build(TOWERS)
    texts = model.encode([f"drawing number {n}" for n in range(COUNT)])
    pictures = model.encode([drawn(n) for n in range(COUNT)])
    texts, pictures = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (texts, pictures))
    scores = texts @ pictures.T
    ranks = (scores > np.diag(scores)[:, None]).sum(1) + 1
    assert result.metrics.values["mrr@10"] == pytest.approx(np.mean(np.where(ranks <= 10, 1 / ranks, 0)), abs=1e-6)
    for query in examples["queries"]:
        assert "image" not in query
        for shown in query["results"]:
            assert shown["text"] is None
            assert shown["image"].startswith("images/")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "mine")
    good = request(store)
    with support.running(EvaluatorConfig(port=0, state_dir=tmp_path / "state", drain_seconds=1), store) as client:
        torn = wire.EvaluateRequest()
        torn.CopyFrom(good)
        path = next(file.path for file in good.plan.index_data.files if file.path.startswith("images/"))
        data = datasets.load(good.plan.index_data, store)
        item = next(item for item in data.items if item.image == path)
        files = {file.path: file.blob for file in good.plan.index_data.files}
        files[path] = store.put_bytes(png(drawn(0))[:-30])
        torn.plan.index_data.CopyFrom(bundles.make(files))
        with pytest.raises(DataFormatError, match=f"the image of the item '{item.id}' does not decode"):
            client.evaluate(torn)
        swapped = wire.EvaluateRequest()
        swapped.CopyFrom(good)
        swapped.plan.index_model = "text"
        with pytest.raises(InvalidRequestError, match="the item 'd0' has no text, which this model needs"):
            client.evaluate(swapped)
        other = wire.EvaluateRequest()
        other.CopyFrom(good)
        other.model.CopyFrom(component("minilm", {"layers": 1}))
        with pytest.raises(EvaluationFailedError, match="does not fit the model"):
            client.evaluate(other)
        texts = Dataset("items", tuple(Item(f"t{n}", f"text {n}", label="1") for n in range(3)))
        alone = support.request(store, support.weights(store), texts, None, index_model="image", model="text")
        with pytest.raises(InvalidRequestError, match="the checkpoint holds no model 'image'; it reads text"):
            client.evaluate(alone)
