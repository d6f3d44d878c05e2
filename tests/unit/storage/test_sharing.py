"""Two folders on one disk hold one file: no byte is copied, and each may let go of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunevane.api.type.v1 import blob_pb2
from tunevane.storage.blobs import BlobStore
from tunevane.storage.sharing import share


@pytest.fixture
def stores(tmp_path: Path) -> tuple[BlobStore, BlobStore]:
    return BlobStore(tmp_path / "one"), BlobStore(tmp_path / "two")


def test_a_shared_blob_is_the_same_file(stores: tuple[BlobStore, BlobStore]) -> None:
    one, two = stores
    refs = [one.put_bytes(b"weights"), one.put_bytes(b"more weights")]
    assert share(one, two, [*refs, refs[0]]) == []
    for ref in refs:
        assert one.path(ref).stat().st_ino == two.path(ref).stat().st_ino
    one.delete(refs[0].blake3)
    assert two.read(refs[0]) == b"weights"
    assert share(one, two, refs) == []


def test_what_cannot_be_shared_is_named(stores: tuple[BlobStore, BlobStore], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores
    ref, absent = one.put_bytes(b"weights"), blob_pb2.BlobRef(blake3="a" * 64, size_bytes=1)

    def other_disk(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    assert share(one, two, [ref, absent]) == [ref, absent]
    assert not two.has(ref)


def test_a_damaged_file_in_the_way_stays_its_owners(stores: tuple[BlobStore, BlobStore]) -> None:
    one, two = stores
    ref = one.put_bytes(b"weights")
    place = two.root / ref.blake3[:2] / ref.blake3
    place.parent.mkdir()
    place.write_bytes(b"torn")
    assert share(one, two, [ref]) == [ref]
    assert place.read_bytes() == b"torn"
