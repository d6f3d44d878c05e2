"""Immutable bytes in files named by their BLAKE3 digest.

A blob is either whole or absent: bytes go to a temporary file, are hashed on the way, synced to disk, and
renamed to their digest only when size and digest are what was promised. Several processes may use one
folder at the same time, because two writers of one digest write the same bytes.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import DataLossError, InvalidRequestError, NotFoundError, StorageFullError

PIECE_BYTES = 1 << 20
PARTIAL_LIFETIME_SECONDS = 24 * 3600.0


@contextmanager
def _disk_errors(path: Path, size_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StorageFullError(
            f"no space left for {size_bytes} bytes in {path}; free some space there and repeat the call",
            {"path": str(path), "size_bytes": str(size_bytes)},
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class BlobStore:
    """A folder of blobs."""

    def __init__(self, root: Path) -> None:
        """Opens the folder, making it where there is none, and removes what old uploads left behind."""
        self.root = root
        self._partial = root / "partial"
        with _disk_errors(root, 0):
            self._partial.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - PARTIAL_LIFETIME_SECONDS
        for leftover in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _place(self, digest: str) -> Path:
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
        return self.put_chunks([data])

    def put_file(self, path: Path) -> blob_pb2.BlobRef:
        """Stores a copy of a file."""
        with path.open("rb") as file:
            return self.put_chunks(iter(lambda: file.read(PIECE_BYTES), b""))

    def put_chunks(self, chunks: Iterable[bytes | memoryview]) -> blob_pb2.BlobRef:
        """Stores the concatenation of pieces."""
        scratch = self._partial / f"new-{uuid.uuid4().hex}"
        hasher = blake3()
        size = 0
        try:
            with _disk_errors(self.root, size), scratch.open("xb") as file:
                for chunk in chunks:
                    hasher.update(chunk)
                    size += file.write(chunk)
                ref = blob_pb2.BlobRef(blake3=hasher.hexdigest(), size_bytes=size)
                if self.has(ref):
                    self.touch([ref])
                    return ref
                file.flush()
                os.fsync(file.fileno())
            self._adopt(scratch, ref)
            return ref
        finally:
            scratch.unlink(missing_ok=True)

    def _adopt(self, scratch: Path, ref: blob_pb2.BlobRef) -> None:
        place = self._place(ref.blake3)
        with _disk_errors(self.root, ref.size_bytes):
            place.parent.mkdir(exist_ok=True)
            scratch.replace(place)
            _sync_folder(place.parent)

    def begin(self, ref: blob_pb2.BlobRef, offset: int) -> Upload:
        """Starts or continues receiving a blob.

        Args:
            ref: What is promised.
            offset: Where the first byte belongs; at most the bytes already received.

        Raises:
            InvalidRequestError: The offset leaves a gap.

        """
        bundles.check_ref(ref)
        received = self._received(ref)
        if not 0 <= offset <= received:
            raise InvalidRequestError(
                f"{received} bytes of blob {ref.blake3[:12]}… are here, so it cannot continue at {offset}"
            )
        return Upload(self, self._partial / ref.blake3, ref, offset)

    def delete(self, digest: str) -> None:
        """Removes a blob; has no effect where there is none."""
        self._place(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[tuple[str, int, float]]:
        """Lists digest, size in bytes, and last use in seconds since the epoch of all blobs."""
        for folder in self.root.iterdir():
            if len(folder.name) == 2:
                for place in folder.iterdir():
                    with suppress(FileNotFoundError):
                        stat = place.stat()
                        yield place.name, stat.st_size, stat.st_mtime


class Upload:
    """One blob on its way in; bytes received survive a break of the connection."""

    def __init__(self, store: BlobStore, partial: Path, ref: blob_pb2.BlobRef, offset: int) -> None:
        self._store = store
        self._partial = partial
        self._ref = ref
        # Each upload writes a file of its own, so that two senders of one blob cannot mix their bytes.
        self._scratch = partial.with_name(f"upload-{uuid.uuid4().hex}")
        self._hasher = blake3()
        self._size = 0
        with _disk_errors(store.root, ref.size_bytes):
            self._file = self._scratch.open("xb")
            if offset:
                with partial.open("rb") as earlier:
                    while self._size < offset and (piece := earlier.read(min(PIECE_BYTES, offset - self._size))):
                        self.append(piece)

    def append(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            InvalidRequestError: They are more than was promised.
            StorageFullError: The disk is full.

        """
        if self._size + len(data) > self._ref.size_bytes:
            self.discard()
            raise InvalidRequestError(
                f"blob {self._ref.blake3[:12]}… was promised as {self._ref.size_bytes} bytes, and more arrived"
            )
        self._hasher.update(data)
        with _disk_errors(self._store.root, self._ref.size_bytes):
            self._file.write(data)
        self._size += len(data)

    def commit(self) -> blob_pb2.BlobRef:
        """Makes the blob visible, once it is whole.

        Raises:
            InvalidRequestError: Bytes are missing; those received are kept for a resumed upload.
            DataLossError: The bytes do not match the digest; they are thrown away.

        """
        if self._size < self._ref.size_bytes:
            self.suspend()
            raise InvalidRequestError(
                f"blob {self._ref.blake3[:12]}… ended after {self._size} of {self._ref.size_bytes} bytes; go on there"
            )
        if self._hasher.hexdigest() != self._ref.blake3:
            self.discard()
            self._partial.unlink(missing_ok=True)
            raise DataLossError(
                f"the bytes sent do not hash to {self._ref.blake3[:12]}…; send the blob again from its start"
            )
        try:
            with _disk_errors(self._store.root, self._ref.size_bytes):
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            self._store._adopt(self._scratch, self._ref)
            self._partial.unlink(missing_ok=True)
        except BaseException:
            self.discard()
            raise
        return self._ref

    def suspend(self) -> None:
        """Keeps what was received, so that a later upload continues from it."""
        if not self._scratch.exists():
            return
        try:
            with _disk_errors(self._store.root, self._ref.size_bytes):
                self._file.close()
            if self._size > self._store._received(self._ref):
                self._scratch.replace(self._partial)
        finally:
            self._scratch.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throws away what was received."""
        with suppress(OSError):
            self._file.close()
        self._scratch.unlink(missing_ok=True)
