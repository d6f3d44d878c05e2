"""Removes blobs that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Collection

from tunevane.storage.blobs import BlobStore


def collect(blobs: BlobStore, kept: Collection[str], unused_since: float) -> int:
    """Removes blobs that nobody keeps and nobody has used for a while.

    A blob goes in one step, so a crash in the middle leaves fewer blobs to remove and nothing broken. Files that a
    worker has stored and not committed yet are new, which is what keeps them.

    Args:
        blobs: The store.
        kept: Digests that something refers to.
        unused_since: Moment, in seconds since the epoch; what was used later stays.

    Returns:
        How many were removed.

    """
    removed = 0
    for digest, _, used in list(blobs.digests()):
        if digest not in kept and used < unused_since:
            removed += blobs.delete_unused(digest, unused_since)
    return removed
