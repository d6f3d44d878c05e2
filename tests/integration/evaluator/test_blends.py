"""One evaluation measures many mixes of weights: each as if it were asked for alone, and nothing stays of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import evaluator_service as support
from support.models import minilm
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import EvaluationFailedError, InvalidRequestError
from tunevane.nn import checkpoint, models
from tunevane.nn.blend import blend
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.config import EvaluatorConfig

QUERIES = support.translations("de", 20, "q")
DOCUMENTS = support.translations("en", 60, "d")


def test_mixes_are_measured_as_if_they_were_asked_for_alone(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "mine")
    pretrained, finetuned = support.weights(store), support.weights(store, factor=1.5)
    mixed = blend(checkpoint.read(pretrained, store), checkpoint.read(finetuned, store), 0.3)
    model = models.build(minilm())
    checkpoint.fill(model, mixed)
    weights = {0.0: pretrained, 0.3: checkpoint.save(model.state_dict(), store), 1.0: finetuned}
    config = EvaluatorConfig(port=0, state_dir=tmp_path / "state", drain_seconds=1)
    with support.running(config, store) as client:
        alone = {
            alpha: dict(client.evaluate(support.request(store, each, QUERIES, DOCUMENTS)).metrics.values)
            for alpha, each in weights.items()
        }
        assert len({str(values) for values in alone.values()}) == 3
        request = support.request(store, finetuned, QUERIES, DOCUMENTS, example_count=2)
        request.blends.CopyFrom(wire.BlendSweep(pretrained=pretrained, alphas=[0.3, 1.0, 0.0]))
        result = client.evaluate(request)
        assert {each.alpha: dict(each.metrics.values) for each in result.blends} == alone
        assert [each.alpha for each in result.blends] == [0.3, 1.0, 0.0]
        assert dict(result.metrics.values) == alone[1.0]
        assert result.HasField("examples")
        # The whole is remembered under a name of its own, and the weights asked for next are loaded anew.
        assert not client.evaluate(request).computed
        fresh = support.request(store, finetuned, QUERIES, DOCUMENTS, query_sample_size=19)
        before = client.evaluate(fresh)
        fresh.checkpoint.CopyFrom(pretrained)
        assert client.evaluate(fresh).metrics != before.metrics

        request.blends.alphas.append(1.5)
        request.blends.pretrained.Clear()
        with pytest.raises(InvalidRequestError) as caught:
            client.evaluate(request)
        assert {problem.field for problem in caught.value.problems} == {"blends.alphas", "blends.pretrained"}
        other = checkpoint.save(models.build(minilm(1)).state_dict(), store)
        request.blends.CopyFrom(wire.BlendSweep(pretrained=other, alphas=[0.5]))
        with pytest.raises(EvaluationFailedError, match="differ in names or shapes"):
            client.evaluate(request)
