"""Checkpoints keep every bit, and only what changed is new."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from support.models import tiny
from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError, PreconditionError
from tunevane.nn import checkpoint
from tunevane.storage.blobs import BlobStore


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def refs(bundle: blob_pb2.Bundle) -> dict[str, str]:
    return {file.path: file.blob.blake3 for file in bundle.files}


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_comes_back_bit_by_bit(tmp_path: Path, store: BlobStore, tied: bool) -> None:
    model = tiny(tmp_path / "a", tied=tied)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert any(not tensor.is_floating_point() for tensor in saved.values())
    bundle = checkpoint.save(model.state_dict(), store)
    other = tiny(tmp_path / "b", tied=tied)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    places = {name: tensor.data_ptr() for name, tensor in other.state_dict().items()}
    checkpoint.load(other, bundle, store)
    loaded = other.state_dict()
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    assert {name: tensor.data_ptr() for name, tensor in loaded.items()} == places


def test_tied_weights_are_stored_once(tmp_path: Path, store: BlobStore) -> None:
    plain = checkpoint.save(tiny(tmp_path / "a").state_dict(), store)
    tied = checkpoint.save(tiny(tmp_path / "b", tied=True).state_dict(), store)
    assert bundles.total_bytes(plain) - bundles.total_bytes(tied) > 16 * 32 * 4 - 400
    assert "aliases.json" in refs(tied)
    read = checkpoint.read(tied, store)
    first, second = (read[f"0.model.encoder.layer.{layer}.output.dense.weight"] for layer in (0, 1))
    assert torch.equal(first, second)


def test_the_same_weights_have_the_same_digests(tmp_path: Path, store: BlobStore) -> None:
    bundle = checkpoint.save(tiny(tmp_path / "a").state_dict(), store)
    again = checkpoint.save(tiny(tmp_path / "b").state_dict(), BlobStore(tmp_path / "other"))
    assert bundles.digest(bundle) == bundles.digest(again)


def test_a_change_of_one_layer_changes_only_its_blob(tmp_path: Path, store: BlobStore) -> None:
    model = tiny(tmp_path / "a")
    before = refs(checkpoint.save(model.state_dict(), store))
    with torch.no_grad():
        model.state_dict()["0.model.encoder.layer.1.output.dense.bias"].add_(1)
    after = refs(checkpoint.save(model.state_dict(), store))
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"0.model.encoder.layer.1.safetensors"}
    assert before.keys() == after.keys()
    assert len(before) >= 4


def test_all_types_of_tensors_survive(store: BlobStore) -> None:
    given = {
        "a.float": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "a.half": torch.tensor([1.5, -2.25], dtype=torch.float16),
        "a.brain": torch.tensor([[1.5], [-2.25]], dtype=torch.bfloat16),
        "a.double": torch.tensor(3.0, dtype=torch.float64),
        "a.long": torch.tensor([2**62 + 1]),
        "a.flag": torch.tensor([True, False]),
        "a.byte": torch.tensor([255], dtype=torch.uint8),
        "a.empty": torch.zeros((0, 3)),
        "a.turned": torch.arange(6.0).reshape(2, 3).T,
    }
    read = checkpoint.read(checkpoint.save(given, store), store)
    assert read.keys() == given.keys()
    for name, tensor in given.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        flat, expected = (each.contiguous().reshape(-1).view(torch.uint8) for each in (read[name], tensor))
        assert torch.equal(flat, expected), name


def test_a_type_that_cannot_be_stored_is_named(store: BlobStore) -> None:
    with pytest.raises(InvalidRequestError, match=r"tensor 'a\.b' has the type torch.complex64"):
        checkpoint.save({"a.b": torch.zeros(1, dtype=torch.complex64)}, store)


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(store: BlobStore) -> None:
    model = torch.nn.ModuleDict({str(number): torch.nn.Linear(2, 2) for number in range(8)})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = {name: tensor + 1 for name, tensor in before.items() if name.startswith(("0", "1"))}
    other["0.weight"] = torch.zeros(3, 2)
    other["9.bias"] = torch.zeros(2)
    bundle = checkpoint.save(other, store)
    with pytest.raises(PreconditionError) as caught:
        checkpoint.load(model, bundle, store)
    assert "does not fit the model (14 tensors): missing 2.weight;" in str(caught.value)
    assert str(caught.value).count(";") == 9
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_shapes_are_named(store: BlobStore) -> None:
    model = torch.nn.Linear(2, 2)
    bundle = checkpoint.save({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, store)
    with pytest.raises(PreconditionError, match=r"weight is \[3, 2\], not \[2, 2\]"):
        checkpoint.load(model, bundle, store)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"\x80\x05K\x01." * 10,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 10) + b'{"a": 1}  ',
        struct.pack("<Q", 57) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}  ' + b"1234",
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(store: BlobStore, data: bytes) -> None:
    bundle = bundles.make({"a.safetensors": store.put_bytes(data)})
    with pytest.raises(InvalidRequestError, match=r"'a.safetensors' of the checkpoint is no safetensors file"):
        checkpoint.read(bundle, store)
