"""A snapshot is what the tensors were, whatever training does to them afterwards, and costs memory once."""

from pathlib import Path

import torch

from support.models import tiny
from tunevane.nn import checkpoint
from tunevane.nn.snapshot import Snapshots
from tunevane.storage.blobs import BlobStore


def test_a_snapshot_gives_the_checkpoint_of_its_moment(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    model = tiny(tmp_path, tied=True)
    expected = checkpoint.save(model.state_dict(), store)
    taken = Snapshots().take(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert checkpoint.save(model.state_dict(), store) != expected
    assert checkpoint.save(taken.wait(), store) == expected


def test_views_scalars_empty_and_integer_tensors_are_copied() -> None:
    base = torch.arange(12).reshape(3, 4)
    tensors = {
        "view": base.t(),
        "row": base[1],
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "other-empty": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
    }
    copies = Snapshots().take(tensors).wait()
    assert list(copies) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(copies[name], tensor)
        assert copies[name].dtype == tensor.dtype
        assert tensor.numel() == 0 or copies[name].data_ptr() != tensor.data_ptr()


def test_memory_is_used_again_after_it_was_given_back() -> None:
    snapshots = Snapshots()
    tensor = torch.zeros(5)
    first = snapshots.take({"w": tensor})
    second = snapshots.take({"w": tensor})
    assert second.tensors["w"].data_ptr() != first.tensors["w"].data_ptr()
    memory = first.tensors["w"].data_ptr()
    snapshots.give_back(first)
    third = snapshots.take({"w": tensor + 1})
    assert third.tensors["w"].data_ptr() == memory
    assert torch.equal(third.tensors["w"], tensor + 1)
    assert torch.equal(second.tensors["w"], tensor)
