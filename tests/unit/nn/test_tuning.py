"""Frozen layers, heads and adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from support.vision import resnet
from tunevane.callback.components import component
from tunevane.errors import InvalidRequestError
from tunevane.nn import checkpoint, folders, models
from tunevane.nn.encode import Encoder
from tunevane.nn.tuning import short_name
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = ["a text", "another, somewhat longer text", "one"]


def trained(model: SentenceTransformer) -> set[str]:
    return {short_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad}


def step(model: SentenceTransformer, texts: list[str]) -> None:
    """Trains one step towards nothing in particular."""
    from tunevane.nn.inputs import text_features, tokenise

    model.train()
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
    model(text_features(model, tokenise(model, texts)))["sentence_embedding"].pow(3).sum().backward()
    optimizer.step()
    model.eval()


def test_layers_are_frozen_by_the_beginning_of_their_names() -> None:
    model = models.build(component("minilm", {"layers": 2, "freeze": ["embeddings", "encoder.layer.0"]}))
    assert {name.split(".")[0] for name in trained(model)} == {"encoder", "pooler"}
    assert {name.split(".")[2] for name in trained(model) if name.startswith("encoder")} == {"1"}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step(model, TEXTS)
    changed = {short_name(name) for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_a_whole_tower_is_frozen() -> None:
    options = {"output_dim": 4, "text_options": {"layers": 1}, "image_options": {"image_size": 32}, "freeze": ["image"]}
    model = models.build(component("two-towers", options))
    assert {name.partition(".")[0] for name in trained(model)} == {"text"}


def test_a_name_that_begins_nothing_is_refused() -> None:
    with pytest.raises(
        InvalidRequestError, match=r"freeze: 'layer\.0' begins the name of no layer; .*: embeddings, enc"
    ):
        models.build(component("minilm", {"layers": 1, "freeze": ["layer.0"]}))
    with pytest.raises(InvalidRequestError, match=r"'encoder\.layer\.1' begins the name of no layer"):
        models.build(component("minilm", {"layers": 1, "freeze": ["encoder.layer.1"]}))


def test_frozen_batch_statistics_stay(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    bundle = models.folder_bundle(resnet(tmp_path / "resnet"), store)
    statistics = {}
    for freeze in ([], ["embedder", "encoder"]):
        model = models.build(component("sentence-transformers", {"freeze": freeze}, {"folder": bundle}), store)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running" in name}
        model.train()
        model({"pixel_values": torch.rand(4, 3, 32, 32), "modality": "image"})
        after = model.state_dict()
        statistics[len(freeze)] = all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert statistics == {0: False, 2: True}


def test_a_head_is_the_same_wherever_it_is_made_and_keeps_angles(tmp_path: Path) -> None:
    random = torch.rand(1)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one = models.build(component("minilm", {"layers": 1, "output_dim": 256}))
    assert torch.equal(torch.rand(1), expected), "building disturbs nobody else's random numbers"
    assert not torch.equal(random, expected)
    other = models.build(component("minilm", {"layers": 1, "output_dim": 256}))
    plain = models.build(component("minilm", {"layers": 1}))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert one.get_embedding_dimension() == 256
    ours, theirs = Encoder(one).encode(TEXTS), Encoder(plain).encode(TEXTS)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=0.15)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(ours, one.encode(TEXTS), atol=1e-5)


def test_adapters_are_trained_alone_and_merged_into_the_artifact(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    wanted = component("minilm", {"layers": 2, "lora_rank": 4})
    model = models.build(wanted)
    plain = Encoder(models.build(component("minilm", {"layers": 2}))).encode(TEXTS)
    np.testing.assert_allclose(Encoder(model).encode(TEXTS), plain, atol=1e-6)
    assert trained(model)
    assert all(".lora_" in name for name in trained(model))
    step(model, TEXTS)
    tuned = model.encode(TEXTS)
    assert np.abs(tuned - plain).max() > 1e-3
    np.testing.assert_allclose(Encoder(model).encode(TEXTS), tuned, atol=1e-5)
    # The evaluator builds the model from the same options and takes the checkpoint.
    store = BlobStore(tmp_path / "blobs")
    other = models.build(wanted)
    checkpoint.load(other, checkpoint.save(model.state_dict(), store), store)
    np.testing.assert_array_equal(Encoder(other).encode(TEXTS), Encoder(model).encode(TEXTS))
    folders.save(model, tmp_path / "artifact")
    assert any("lora_A" in name for name in model.state_dict()), "the model itself keeps its adapters"
    artifact = SentenceTransformer(str(tmp_path / "artifact"), device="cpu", local_files_only=True)
    assert not any("lora" in name for name in artifact.state_dict())
    np.testing.assert_allclose(artifact.encode(TEXTS), tuned, atol=1e-5)
    from tunevane.nn.tuning import merged

    np.testing.assert_array_equal(artifact.encode(TEXTS), merged(model).encode(TEXTS))


def test_adapters_that_fit_nothing_are_refused() -> None:
    options = {"layers": 1, "lora_rank": 2, "lora_targets": ["c_attn"]}
    with pytest.raises(InvalidRequestError, match="lora_targets: fit no linear layer .*: dense, key, query, value"):
        models.build(component("minilm", options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 0}, "lora_rank: must be in [1, 1024], not 0"),
        ({"lora_alpha": 0}, "lora_alpha: must be at least 1, not 0"),
        ({"freeze": [""]}, "freeze: has an empty name"),
        ({"output_dim": -1}, "output_dim: must be in [1, 65536], not -1"),
    ],
)
def test_options_that_cannot_work(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        models.check(component("minilm", options), "model")
    assert f"model.{message}" in str(caught.value)
