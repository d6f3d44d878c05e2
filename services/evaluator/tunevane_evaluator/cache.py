"""Keeps the blob cache within its size."""

from __future__ import annotations

from collections.abc import Container

from tunevane.storage.blobs import BlobStore


def make_room(store: BlobStore, limit_bytes: int, keep: Container[str]) -> int:
    """Removes the least recently used blobs until the rest fits.

    Args:
        store: The cache.
        limit_bytes: Size that it may have.
        keep: Digests that are in use.

    Returns:
        Bytes that were removed.

    """
    blobs = sorted(store.digests(), key=lambda blob: blob[2])
    excess = sum(size for _, size, _ in blobs) - limit_bytes
    removed = 0
    for digest, size, _ in blobs:
        if removed >= excess:
            break
        if digest not in keep:
            store.delete(digest)
            removed += size
    return removed
