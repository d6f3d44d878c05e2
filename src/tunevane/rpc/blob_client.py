"""Moves blobs to and from a service: asks what is missing, sends that, goes on after a break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import grpc

from tunevane.api.blob.v1 import blob_service_pb2, blob_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import DataLossError, InternalError, TunevaneError, UnavailableError
from tunevane.storage.blobs import PIECE_BYTES, BlobStore
from tunevane.storage.disk import Disk, full_disk_named
from tunevane.storage.scratch import Scratch

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes to do, in the thread that moves the blobs."""

SERVICE_NAME = blob_service_pb2.DESCRIPTOR.services_by_name["BlobService"].full_name
MAX_REFS = 10_000

_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 5.0


class _Attempts:
    """Bears with a broken connection; bytes that moved in between start the count anew."""

    def __init__(self) -> None:
        self._failed = 0
        self._damaged = 0
        self._moved = 0

    def after(self, error: TunevaneError, moved: int) -> None:
        """Waits before the next attempt, or raises the error if another would be in vain.

        Args:
            error: Why the attempt failed.
            moved: Bytes that all attempts together have moved for good.

        """
        self._failed = 1 if moved > self._moved else self._failed + 1
        self._moved = moved
        if isinstance(error, DataLossError):
            # Once may be bytes of an earlier upload that a crash damaged; those are thrown away by now.
            self._damaged += 1
        # A connection that breaks inside a message is INTERNAL to grpc; a bug over there has an id.
        is_bug = isinstance(error, InternalError) and "error_id" in error.details
        if is_bug or self._failed >= _ATTEMPTS or self._damaged > 1:
            raise error
        time.sleep(min(0.1 * 2**self._failed, _LONGEST_PAUSE_SECONDS))


_BROKEN = (UnavailableError, InternalError, DataLossError)


class BlobClient:
    """Moves blobs between a store here and a service there. Threads may share it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = blob_service_pb2_grpc.BlobServiceStub(channel)

    def find_missing(self, refs: Sequence[blob_pb2.BlobRef]) -> list[tuple[blob_pb2.BlobRef, int]]:
        """Lists the blobs that the service lacks, with the bytes already received of each."""
        found: list[tuple[blob_pb2.BlobRef, int]] = []
        for start in range(0, len(refs), MAX_REFS):
            request = blob_service_pb2.FindMissingBlobsRequest(blobs=refs[start : start + MAX_REFS])
            response = self._stub.FindMissingBlobs(request)
            found.extend((each.blob, each.received_bytes) for each in response.missing)
        return found

    def push(self, store: BlobStore, refs: Iterable[blob_pb2.BlobRef], progress: Progress | None = None) -> int:
        """Uploads what the service lacks, going on where a broken connection left off.

        Args:
            store: Where the blobs are.
            refs: Which ones.
            progress: What the service holds already counts as done.

        Returns:
            Bytes that were sent and are held now.

        Raises:
            NotFoundError: The store here does not hold one of them.
            UnavailableError: The service stayed away through all attempts.
            DataLossError: Bytes arrived that do not match their digest, twice.
            StorageFullError: The service's disk is full.

        """
        wanted = list({ref.blake3: ref for ref in refs}.values())
        total = sum(ref.size_bytes for ref in wanted)
        attempts = _Attempts()
        at_first: int | None = None
        done = 0
        while True:
            try:
                missing = self.find_missing(wanted)
                done = total - sum(ref.size_bytes - received for ref, received in missing)
                at_first = done if at_first is None else at_first
                for ref, received in missing:
                    self._upload(store, ref, received, _from(done, total, progress))
                    done += ref.size_bytes - received
            except _BROKEN as error:
                attempts.after(error, done)
            else:
                break
        if progress is not None:
            progress(total, total)
        return total - at_first

    def _upload(self, store: BlobStore, ref: blob_pb2.BlobRef, offset: int, moved: Callable[[int], None]) -> None:
        pieces = _Pieces(store.path(ref), ref, offset)
        call = self._stub.UploadBlob.future(iter(pieces))
        try:
            call.add_done_callback(lambda _: pieces.changed.set())
            while not call.done():
                pieces.changed.wait()
                pieces.changed.clear()
                moved(pieces.sent_bytes)
            if pieces.failure is not None:
                raise pieces.failure
            call.result()
        finally:
            call.cancel()

    def fetch(self, refs: Iterable[blob_pb2.BlobRef], store: BlobStore, progress: Progress | None = None) -> None:
        """Downloads what the store lacks, verified, going on where a broken connection left off.

        Raises:
            NotFoundError: The service does not hold one of them.
            UnavailableError: The service stayed away through all attempts.
            DataLossError: Bytes arrived that do not match their digest, twice.
            StorageFullError: The disk here is full.

        """
        missing = store.missing(refs)
        total = sum(ref.size_bytes - received for ref, received in missing)
        done = 0
        for ref, at_first in missing:
            attempts = _Attempts()
            received = at_first
            while True:
                upload = store.begin(ref, received)
                try:
                    self._download(ref, received, upload.append, _from(done + received - at_first, total, progress))
                    upload.commit()
                except _BROKEN as error:
                    upload.suspend()
                    received = next((size for _, size in store.missing([ref])), ref.size_bytes)
                    attempts.after(error, received)
                except BaseException:
                    upload.suspend()
                    raise
                else:
                    break
            done += ref.size_bytes - at_first

    def download_to(self, ref: blob_pb2.BlobRef, path: Path, progress: Progress | None = None) -> None:
        """Downloads one blob to a path, where it appears whole and verified or not at all.

        Raises:
            NotFoundError: The service does not hold it.
            UnavailableError: The service stayed away through all attempts.
            DataLossError: Bytes arrived that do not match the digest, twice.
            StorageFullError: The disk here is full.

        """
        bundles.check_ref(ref)
        path.parent.mkdir(parents=True, exist_ok=True)
        attempts = _Attempts()
        disk = Disk()
        scratch = Scratch(disk, path.with_name(f".{path.name}.{uuid4().hex}"))
        try:
            while True:
                try:
                    self._download(ref, scratch.size, scratch.append, _from(scratch.size, ref.size_bytes, progress))
                    if scratch.hasher.hexdigest() != ref.blake3:
                        raise DataLossError(f"the bytes of blob {ref.blake3[:12]}… arrived damaged; fetch it again")
                    break
                except _BROKEN as error:
                    if isinstance(error, DataLossError):
                        scratch.remove()
                        scratch = Scratch(disk, scratch.path)
                    attempts.after(error, scratch.size)
            with full_disk_named(path.parent, ref.size_bytes):
                scratch.finish()
                disk.rename(scratch.path, path)
                disk.sync_folder(path.parent)
        finally:
            scratch.remove()

    def _download(
        self,
        ref: blob_pb2.BlobRef,
        offset: int,
        append: Callable[[bytes], None],
        moved: Callable[[int], None],
    ) -> None:
        received = offset
        call = self._stub.DownloadBlob(blob_service_pb2.DownloadBlobRequest(blob=ref, offset=offset))
        try:
            for response in call:
                append(response.data)
                received += len(response.data)
                moved(received - offset)
        finally:
            call.cancel()
        if received != ref.size_bytes:
            raise DataLossError(
                f"the service sent {received} of the {ref.size_bytes} bytes of blob {ref.blake3[:12]}…; fetch it again"
            )


def _from(done: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    """Returns a progress for one part, where some bytes were done before it."""

    def report(moved: int) -> None:
        if progress is not None:
            progress(done + moved, total)

    return report


class _Pieces:
    """The messages of one upload; grpc takes them in a thread of its own."""

    def __init__(self, path: Path, ref: blob_pb2.BlobRef, offset: int) -> None:
        self._path = path
        self._ref = ref
        self._offset = offset
        self.sent_bytes = 0
        self.failure: Exception | None = None
        self.changed = threading.Event()

    def __iter__(self) -> Iterator[blob_service_pb2.UploadBlobRequest]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(PIECE_BYTES)
                yield blob_service_pb2.UploadBlobRequest(blob=self._ref, offset=self._offset, data=data)
                while True:
                    # grpc asks for the next message once it has room for it, so the one before is under way.
                    self.sent_bytes += len(data)
                    self.changed.set()
                    data = file.read(PIECE_BYTES)
                    if not data:
                        return
                    yield blob_service_pb2.UploadBlobRequest(data=data)
        except OSError as error:
            self.failure = error
