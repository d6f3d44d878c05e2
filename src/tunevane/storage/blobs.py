"""Immutable bytes in files named by their BLAKE3 digest.

A blob is either whole or absent: bytes go to a temporary file, are hashed on the way, synced to disk, and
renamed to their digest only when size and digest are what was promised. Several processes may use one
folder at the same time, because two writers of one digest write the same bytes.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import DataLossError, InvalidRequestError, NotFoundError, StorageFullError
from tunevane.storage.disk import Disk, full, full_disk_named
from tunevane.storage.scratch import Scratch

PIECE_BYTES = 1 << 20
PARTIAL_LIFETIME_SECONDS = 24 * 3600.0


class BlobStore:
    """A folder of blobs."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        """Opens the folder, making it where there is none, and removes what old uploads left behind."""
        self.root = root
        self.disk = Disk() if disk is None else disk
        self._partial = root / "partial"
        with full_disk_named(root, 0):
            self._partial.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - PARTIAL_LIFETIME_SECONDS
        for leftover in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _place(self, digest: str) -> Path:
        # Checked here, so that no text from elsewhere can ever become a path.
        bundles.check_digest(digest)
        return self.root / digest[:2] / digest

    def path(self, ref: blob_pb2.BlobRef) -> Path:
        """Returns the file of a blob.

        Raises:
            NotFoundError: The store does not hold it.

        """
        if not self.has(ref):
            raise NotFoundError(f"there is no blob {ref.blake3[:12]}… of {ref.size_bytes} bytes here")
        return self._place(ref.blake3)

    def has(self, ref: blob_pb2.BlobRef) -> bool:
        """Tells whether the whole blob is here, with the size that the reference says."""
        bundles.check_ref(ref)
        try:
            return self._place(ref.blake3).stat().st_size == ref.size_bytes
        except FileNotFoundError:
            return False

    def touch(self, refs: Iterable[blob_pb2.BlobRef]) -> None:
        """Marks blobs as used now, which keeps them from being collected for a while."""
        for ref in refs:
            with suppress(FileNotFoundError):
                os.utime(self._place(ref.blake3))

    def read(self, ref: blob_pb2.BlobRef) -> bytes:
        """Returns the bytes of a blob, verified.

        Raises:
            NotFoundError: The store does not hold it.
            DataLossError: The file was changed behind our back; it is removed.

        """
        data = self.path(ref).read_bytes()
        if blake3(data).hexdigest() != ref.blake3:
            self.delete(ref.blake3)
            raise DataLossError(f"blob {ref.blake3[:12]}… was damaged on disk and has been removed; upload it again")
        return data

    def missing(self, refs: Iterable[blob_pb2.BlobRef]) -> list[tuple[blob_pb2.BlobRef, int]]:
        """Lists the blobs that are not here, each once, with the bytes already received of it."""
        found: dict[str, tuple[blob_pb2.BlobRef, int]] = {}
        for ref in refs:
            if ref.blake3 not in found and not self.has(ref):
                found[ref.blake3] = (ref, self._received(ref))
        return list(found.values())

    def _received(self, ref: blob_pb2.BlobRef) -> int:
        try:
            return min((self._partial / ref.blake3).stat().st_size, ref.size_bytes)
        except FileNotFoundError:
            return 0

    def put_bytes(self, data: bytes | memoryview) -> blob_pb2.BlobRef:
        """Stores bytes."""
        flat = memoryview(data).cast("B")
        ref = blob_pb2.BlobRef(blake3=blake3(flat).hexdigest(), size_bytes=len(flat))
        return self._held(ref) or self.put_chunks([data])

    def put_file(self, path: Path) -> blob_pb2.BlobRef:
        """Stores a copy of a file."""
        hasher = blake3()
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                hasher.update(piece)
            ref = blob_pb2.BlobRef(blake3=hasher.hexdigest(), size_bytes=file.tell())
            held = self._held(ref)
            if held is not None:
                return held
            # Hashed once more while it is copied, because it may have changed since.
            file.seek(0)
            return self.put_chunks(iter(lambda: file.read(PIECE_BYTES), b""))

    def put_chunks(self, chunks: Iterable[bytes | memoryview]) -> blob_pb2.BlobRef:
        """Stores the concatenation of pieces.

        Raises:
            StorageFullError: The disk is full; nothing is left behind.

        """
        scratch = Scratch(self.disk, self._partial / f"new-{uuid.uuid4().hex}")
        try:
            for chunk in chunks:
                scratch.append(chunk)
            ref = blob_pb2.BlobRef(blake3=scratch.hasher.hexdigest(), size_bytes=scratch.size)
            return self._held(ref) or self._adopt(scratch, ref)
        finally:
            scratch.remove()

    def put_named(self, ref: blob_pb2.BlobRef, chunks: Iterable[bytes | memoryview]) -> blob_pb2.BlobRef:
        """Stores the concatenation of pieces that the caller has hashed, and that do not change meanwhile.

        Nothing is written where the blob is held already.

        Raises:
            StorageFullError: The disk is full; nothing is left behind.

        """
        held = self._held(ref)
        if held is not None:
            return held
        scratch = Scratch(self.disk, self._partial / f"new-{uuid.uuid4().hex}", hashed=False)
        try:
            for chunk in chunks:
                scratch.append(chunk)
            return self._adopt(scratch, ref)
        finally:
            scratch.remove()

    def _held(self, ref: blob_pb2.BlobRef) -> blob_pb2.BlobRef | None:
        """Returns a reference, marked as used now, if the store holds the blob."""
        if not self.has(ref):
            return None
        self.touch([ref])
        return ref

    def _adopt(self, scratch: Scratch, ref: blob_pb2.BlobRef) -> blob_pb2.BlobRef:
        place = self._place(ref.blake3)
        with full_disk_named(self.root, ref.size_bytes):
            scratch.finish()
            if not place.parent.exists():
                place.parent.mkdir(exist_ok=True)
                self.disk.sync_folder(self.root)
            self.disk.rename(scratch.path, place)
            self.disk.sync_folder(place.parent)
        return ref

    def begin(self, ref: blob_pb2.BlobRef, offset: int) -> Upload:
        """Starts or continues receiving a blob.

        Args:
            ref: What is promised.
            offset: Where the first byte belongs; at most the bytes already received.

        Raises:
            InvalidRequestError: The offset leaves a gap.
            StorageFullError: The disk has no room for what is promised; nothing needs to be sent.

        """
        bundles.check_ref(ref)
        received = self._received(ref)
        if not 0 <= offset <= received:
            raise InvalidRequestError(
                f"{received} bytes of blob {ref.blake3[:12]}… are here, so it cannot continue at {offset};"
                f" ask what is missing and go on from there"
            )
        if ref.size_bytes > self.disk.free_bytes(self.root):
            raise full(self.root, ref.size_bytes)
        return Upload(self, self._partial / ref.blake3, ref, offset)

    def delete(self, digest: str) -> None:
        """Removes a blob; has no effect where there is none."""
        self._place(digest).unlink(missing_ok=True)

    def delete_unused(self, digest: str, since: float) -> bool:
        """Removes a blob unless it was used after a moment, and tells whether it did; looks once more before."""
        place = self._place(digest)
        with suppress(FileNotFoundError):
            if place.stat().st_mtime < since:
                place.unlink()
                return True
        return False

    def digests(self) -> Iterator[tuple[str, int, float]]:
        """Lists digest, size in bytes, and last use in seconds since the epoch of all blobs."""
        for folder in self.root.iterdir():
            if len(folder.name) == 2:
                for place in folder.iterdir():
                    with suppress(FileNotFoundError):
                        stat = place.stat()
                        yield place.name, stat.st_size, stat.st_mtime


class Upload:
    """One blob on its way in; bytes received survive a break of the connection.

    It ends with `commit`, `suspend` or `discard`; after that the others have no effect.
    """

    def __init__(self, store: BlobStore, partial: Path, ref: blob_pb2.BlobRef, offset: int) -> None:
        self._store = store
        self._partial = partial
        self._ref = ref
        # Each upload writes a file of its own, so that two senders of one blob cannot mix their bytes.
        self._scratch = Scratch(store.disk, partial.with_name(f"upload-{uuid.uuid4().hex}"))
        self._open = True
        try:
            if offset:
                self._copy(offset)
        except BaseException:
            self.discard()
            raise

    def _copy(self, offset: int) -> None:
        """Takes over what an earlier upload left, up to an offset."""
        with suppress(FileNotFoundError), self._partial.open("rb") as earlier:
            while piece := earlier.read(min(PIECE_BYTES, offset - self._scratch.size)):
                self._scratch.append(piece)
        if self._scratch.size < offset:
            # Another upload of the blob took them in the meantime.
            raise InvalidRequestError(
                f"the bytes of blob {self._ref.blake3[:12]}… received earlier are gone; ask what is missing"
            )

    def append(self, data: bytes | memoryview) -> None:
        """Takes the next bytes.

        Raises:
            InvalidRequestError: They are more than was promised; everything received is thrown away.
            StorageFullError: The disk is full; everything received is thrown away.

        """
        if self._scratch.size + len(data) > self._ref.size_bytes:
            self.discard()
            raise InvalidRequestError(
                f"blob {self._ref.blake3[:12]}… was promised as {self._ref.size_bytes} bytes, and more arrived;"
                " name its true size"
            )
        try:
            self._scratch.append(data)
        except OSError:
            self.discard()
            raise
        except StorageFullError:
            self.discard()
            self._partial.unlink(missing_ok=True)
            raise

    def commit(self) -> blob_pb2.BlobRef:
        """Makes the blob visible, once it is whole.

        Raises:
            InvalidRequestError: Bytes are missing; those received are kept for a resumed upload.
            DataLossError: The bytes do not match the digest; they are thrown away.
            StorageFullError: The disk is full; the bytes are thrown away.

        """
        size = self._scratch.size
        if size < self._ref.size_bytes:
            self.suspend()
            raise InvalidRequestError(
                f"blob {self._ref.blake3[:12]}… ended after {size} of {self._ref.size_bytes} bytes; go on there"
            )
        try:
            if self._scratch.hasher.hexdigest() != self._ref.blake3:
                raise DataLossError(
                    f"the bytes sent do not hash to {self._ref.blake3[:12]}…; send the blob again from its start"
                )
            return self._store._adopt(self._scratch, self._ref)
        finally:
            self.discard()
            self._partial.unlink(missing_ok=True)

    def suspend(self) -> None:
        """Keeps what was received, so that a later upload continues from it."""
        if not self._open:
            return
        try:
            self._scratch.close()
            if self._scratch.size > self._store._received(self._ref):
                self._scratch.path.replace(self._partial)
        finally:
            self.discard()

    def discard(self) -> None:
        """Throws away what was received."""
        if self._open:
            self._open = False
            self._scratch.remove()
