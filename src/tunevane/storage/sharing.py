"""Gives blobs from one folder to another on the same disk without copying a byte."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tunevane.api.type.v1 import blob_pb2
from tunevane.storage.blobs import BlobStore


def share(source: BlobStore, target: BlobStore, refs: Iterable[blob_pb2.BlobRef]) -> list[blob_pb2.BlobRef]:
    """Makes blobs of one store appear in another, as second names of the same files.

    Blobs never change, so two stores may hold one file; each removes its own name only.

    Args:
        source: Where the blobs are.
        target: Where they are wanted.
        refs: Which ones.

    Returns:
        Those that the target still lacks: the folders are on different disks, the disk has no links, or the source
        does not hold them either. They have to be sent.

    """
    rest = []
    for ref, _ in target.missing(refs):
        if not (source.has(ref) and _link(source, target, ref)):
            rest.append(ref)
    return rest


def _link(source: BlobStore, target: BlobStore, ref: blob_pb2.BlobRef) -> bool:
    place = target.root / ref.blake3[:2] / ref.blake3
    try:
        place.parent.mkdir(exist_ok=True)
        os.link(source.path(ref), place)
    except FileExistsError:
        # Somebody else was faster, or a damaged file is in the way, which only its owner may remove.
        return target.has(ref)
    except OSError:
        return False
    return True
