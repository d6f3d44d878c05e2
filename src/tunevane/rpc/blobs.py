"""Moving blobs between services: ask what is missing, send that, resume after a break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from tunevane.api.blob.v1 import blob_service_pb2, blob_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from tunevane.storage.blobs import PIECE_BYTES, BlobStore

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes to do."""

IDLE_SECONDS = 60.0
MAX_REFS = 10_000
ATTEMPTS = 6

SERVICE_NAME = blob_service_pb2.DESCRIPTOR.services_by_name["BlobService"].full_name


class BlobServicer(blob_service_pb2_grpc.BlobServiceServicer):
    """Serves a blob store; file work happens in threads."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    async def FindMissingBlobs(  # noqa: N802  # the contract's name
        self, request: blob_service_pb2.FindMissingBlobsRequest, context: Any
    ) -> blob_service_pb2.FindMissingBlobsResponse:
        """Tells which blobs the store does not hold."""
        if len(request.blobs) > MAX_REFS:
            raise InvalidRequestError(f"one call asks for at most {MAX_REFS} blobs, not {len(request.blobs)}")

        def look() -> list[blob_service_pb2.MissingBlob]:
            missing = self._store.missing(request.blobs)
            self._store.touch(request.blobs)
            return [blob_service_pb2.MissingBlob(blob=ref, received_bytes=size) for ref, size in missing]

        return blob_service_pb2.FindMissingBlobsResponse(missing=await asyncio.to_thread(look))

    async def UploadBlob(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[blob_service_pb2.UploadBlobRequest], context: Any
    ) -> blob_service_pb2.UploadBlobResponse:
        """Stores one blob."""
        first = await self._next(request_iterator)
        if first is None or not first.HasField("blob"):
            raise InvalidRequestError("the first message of an upload names the blob")
        ref = first.blob
        upload = await asyncio.to_thread(self._store.begin, ref, first.offset)
        try:
            message: blob_service_pb2.UploadBlobRequest | None = first
            while message is not None:
                if message is not first and message.HasField("blob"):
                    raise InvalidRequestError("only the first message of an upload names the blob")
                if len(message.data) > PIECE_BYTES:
                    raise InvalidRequestError(f"a message carries at most {PIECE_BYTES} bytes")
                if message.data:
                    await asyncio.to_thread(upload.append, message.data)
                message = await self._next(request_iterator)
            held = await asyncio.to_thread(upload.commit)
        except InvalidRequestError:
            await asyncio.to_thread(upload.discard)
            raise
        except BaseException:
            upload.suspend()
            raise
        return blob_service_pb2.UploadBlobResponse(blob=held)

    async def _next(
        self, requests: AsyncIterator[blob_service_pb2.UploadBlobRequest]
    ) -> blob_service_pb2.UploadBlobRequest | None:
        try:
            return await asyncio.wait_for(anext(requests), IDLE_SECONDS)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise DeadlineExceededError(f"the upload sent nothing for {IDLE_SECONDS:g} seconds") from None

    async def DownloadBlob(  # noqa: N802  # the contract's name
        self, request: blob_service_pb2.DownloadBlobRequest, context: Any
    ) -> AsyncIterator[blob_service_pb2.DownloadBlobResponse]:
        """Sends one blob from an offset on."""
        if not 0 <= request.offset <= request.blob.size_bytes:
            raise InvalidRequestError(f"the offset {request.offset} is outside the blob")
        place = await asyncio.to_thread(self._store.path, request.blob)
        with await asyncio.to_thread(place.open, "rb") as file:
            await asyncio.to_thread(file.seek, request.offset)
            while data := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield blob_service_pb2.DownloadBlobResponse(data=data)


class BlobClient:
    """Moves blobs between a store here and a service there."""

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

        Returns:
            Bytes that were sent.

        Raises:
            UnavailableError: The service stayed away through all attempts.

        """
        wanted = list({ref.blake3: ref for ref in refs}.values())
        total = sum(ref.size_bytes for ref in wanted)
        sent = 0
        for attempt in range(ATTEMPTS):
            try:
                missing = self.find_missing(wanted)
                done = total - sum(ref.size_bytes - received for ref, received in missing)
                for ref, received in missing:
                    pieces = self._pieces(store, ref, received, done, total, progress)
                    self._stub.UploadBlob(pieces)
                    done += ref.size_bytes - received
                    sent += ref.size_bytes - received
            except UnavailableError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(min(0.2 * 2**attempt, 5.0))
            else:
                break
        if progress is not None:
            progress(total, total)
        return sent

    def _pieces(
        self,
        store: BlobStore,
        ref: blob_pb2.BlobRef,
        offset: int,
        done: int,
        total: int,
        progress: Progress | None,
    ) -> Iterator[blob_service_pb2.UploadBlobRequest]:
        with store.path(ref).open("rb") as file:
            file.seek(offset)
            yield blob_service_pb2.UploadBlobRequest(blob=ref, offset=offset, data=file.read(PIECE_BYTES))
            while data := file.read(PIECE_BYTES):
                yield blob_service_pb2.UploadBlobRequest(data=data)
                if progress is not None:
                    progress(done + file.tell() - offset, total)

    def fetch(self, store: BlobStore, refs: Iterable[blob_pb2.BlobRef], progress: Progress | None = None) -> None:
        """Downloads what the store lacks, verified.

        Raises:
            NotFoundError: The service does not hold one of them.
            DataLossError: Bytes arrived that do not match the digest.

        """
        missing = store.missing(refs)
        total = sum(ref.size_bytes for ref, _ in missing)
        done = 0
        for ref, received in missing:
            for attempt in range(ATTEMPTS):
                upload = store.begin(ref, received)
                try:
                    request = blob_service_pb2.DownloadBlobRequest(blob=ref, offset=received)
                    for response in self._stub.DownloadBlob(request):
                        upload.append(response.data)
                        done += len(response.data)
                        if progress is not None:
                            progress(done, total)
                    upload.commit()
                except UnavailableError:
                    upload.suspend()
                    if attempt == ATTEMPTS - 1:
                        raise
                    time.sleep(min(0.2 * 2**attempt, 5.0))
                    received = next((size for _, size in store.missing([ref])), 0)
                except BaseException:
                    upload.discard()
                    raise
                else:
                    break

    def download_to(self, ref: blob_pb2.BlobRef, path: Path, store: BlobStore) -> None:
        """Downloads one blob and copies it to a path."""
        self.fetch(store, [ref])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(ref))
