"""Models, encoding and checkpoints with the real small model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunevane.callback.components import component
from tunevane.errors import InvalidRequestError, PreconditionError
from tunevane.nn import checkpoint, folders, models
from tunevane.nn.encode import Encoder
from tunevane.storage.blobs import BlobStore

TEXTS = ["hello world", "a much longer text about nothing in particular, on and on", "x", "Füße 🦶"] * 5


@pytest.fixture(scope="module")
def model() -> Any:
    return models.build(component("minilm", {"layers": 1}))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def test_encoding_equals_that_of_sentence_transformers(model: Any) -> None:
    ours = Encoder(model).encode(TEXTS)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, model.encode(TEXTS), atol=1e-5)


def test_a_checkpoint_comes_back_to_the_bit(model: Any, store: BlobStore) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bundle = checkpoint.save(model.state_dict(), store)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    checkpoint.load(model, bundle, store)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert checkpoint.save(model.state_dict(), store) == bundle


def test_only_the_group_that_changed_is_new(model: Any, store: BlobStore) -> None:
    first = checkpoint.save(model.state_dict(), store)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["0.model.encoder.layer.0.output.dense.bias"] += 1
    second = checkpoint.save(state, store)
    changed = [a.path for a, b in zip(first.files, second.files, strict=True) if a.blob != b.blob]
    assert changed == ["0.model.encoder.layer.0.safetensors"]


def test_tied_strided_scalar_and_integer_tensors_survive(store: BlobStore) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a.weight": tied,
        "b.weight": tied,
        "c.strided": tied.t(),
        "d.scalar": torch.tensor(3.5),
        "e.ids": torch.arange(4),
        "f.half": torch.ones(3, dtype=torch.bfloat16),
        "g.flags": torch.tensor([True, False]),
        "h.empty": torch.zeros(0, 4),
    }
    bundle = checkpoint.save(tensors, store)
    back = checkpoint.read(bundle, store)
    assert set(back) == set(tensors)
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert sum("weight" in name for file in bundle.files for name in [file.path]) == 0
    assert checkpoint.ALIASES in [file.path for file in bundle.files]


def test_a_checkpoint_of_another_model_is_refused_by_name(model: Any, store: BlobStore) -> None:
    state = dict(model.state_dict())
    del state["0.model.pooler.dense.bias"]
    with pytest.raises(PreconditionError, match="missing 0.model.pooler.dense.bias"):
        checkpoint.load(model, checkpoint.save(state, store), store)


def test_a_blob_that_is_no_safetensors_file_is_refused(store: BlobStore) -> None:
    bundle = checkpoint.save({"a.weight": torch.ones(2)}, store)
    bundle.files[0].blob.CopyFrom(store.put_bytes(b"\x80\x04 pickled, or so it says"))
    with pytest.raises(InvalidRequestError, match="no safetensors file"):
        checkpoint.read(bundle, store)


def test_a_users_folder_becomes_a_model(model: Any, store: BlobStore, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    model.save(str(folder))
    bundle = models.folder_bundle(folder, store)
    rebuilt = models.build(component("sentence-transformers", {}, {"folder": bundle}), store)
    np.testing.assert_array_equal(rebuilt.encode(TEXTS), model.encode(TEXTS))


def test_a_folder_with_foreign_code_is_refused(model: Any, tmp_path: Path) -> None:
    model.save(str(tmp_path))
    listing = json.loads((tmp_path / "modules.json").read_text())
    listing[0]["type"] = "os.system"
    (tmp_path / "modules.json").write_text(json.dumps(listing))
    with pytest.raises(InvalidRequestError, match="asks for the module 'os.system'"):
        folders.check_folder(tmp_path)


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with pytest.raises(InvalidRequestError, match="did you mean 'minilm'"):
        models.check(component("minilmm", {}), "model")
