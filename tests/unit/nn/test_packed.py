"""Encoding without padding gives what the padded model gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from support.models import names, tiny
from support.vision import clip
from tunevane.callback.components import component
from tunevane.errors import InvalidRequestError
from tunevane.nn import folders, models, packed
from tunevane.nn.encode import Encoder
from tunevane.nn.inputs import route

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = ["", "x", *names("de", 40), " ".join(names("en", 60)), *names("de", 3)]


@pytest.fixture
def model() -> SentenceTransformer:
    return models.build(component("minilm", {"layers": 2}))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("onednn", [True, False])
def test_the_same_vectors(
    model: SentenceTransformer, pooling: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = model[1]
    first.pooling_mode = pooling
    monkeypatch.setattr(packed, "has_onednn", lambda: onednn)
    assert packed.fits(model, route(model, "text"))
    np.testing.assert_allclose(Encoder(model).encode(TEXTS), model.encode(TEXTS), atol=1e-6)


def test_the_same_batches_make_the_same_bits(model: SentenceTransformer) -> None:
    np.testing.assert_array_equal(Encoder(model).encode(TEXTS), Encoder(model).encode(TEXTS))


def test_weights_that_changed_in_place_are_seen(model: SentenceTransformer) -> None:
    encoder = Encoder(model)
    before = encoder.encode(TEXTS)
    with torch.no_grad():
        model.get_parameter("0.model.encoder.layer.1.output.dense.weight").mul_(2)
    after = encoder.encode(TEXTS)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, model.encode(TEXTS), atol=1e-6)


def test_models_that_compute_otherwise_are_left_alone(tmp_path: Path, model: SentenceTransformer) -> None:
    assert not packed.fits(folders.open_folder(clip(tmp_path / "clip")), route(model, "text")[:1])
    first: Any = model[1]
    first.pooling_mode = "max"
    assert not packed.fits(model, route(model, "text"))
    np.testing.assert_allclose(Encoder(model).encode(TEXTS), model.encode(TEXTS), atol=1e-5)
    other: Any = tiny(tmp_path / "tiny")
    assert packed.fits(other, route(other, "text"))
    other[0].model.config.hidden_act = "relu"
    assert not packed.fits(other, route(other, "text"))


def test_each_route_of_a_model_is_seen(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router

    parts: list[Any] = [list(tiny(tmp_path / name).children()) for name in ("query", "document")]
    asymmetric = SentenceTransformer(modules=[Router.for_query_document(*parts)], device="cpu")
    np.testing.assert_allclose(Encoder(asymmetric).encode(TEXTS), asymmetric.encode(TEXTS), atol=1e-5)
    by_name = SentenceTransformer(
        modules=[Router({"words": parts[0]}, route_mappings={(None, "text"): "words"})], device="cpu"
    )
    assert route(by_name, "text") == parts[0]
    lost = SentenceTransformer(modules=[Router({"words": parts[0]}, allow_empty_key=False)], device="cpu")
    with pytest.raises(InvalidRequestError, match="the model has no way for texts; it has those named words"):
        route(lost, "text")
