"""Serves a blob store over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from tunevane.api.blob.v1 import blob_service_pb2, blob_service_pb2_grpc
from tunevane.errors import DeadlineExceededError, InvalidRequestError
from tunevane.rpc.blob_client import MAX_REFS, SERVICE_NAME, BlobClient, Progress
from tunevane.storage.blobs import PIECE_BYTES, BlobStore, Upload

IDLE_SECONDS = 60.0

__all__ = ["SERVICE_NAME", "BlobClient", "BlobServicer", "Progress"]


R = TypeVar("R")


class BlobServicer(blob_service_pb2_grpc.BlobServiceServicer):
    """Serves a blob store; file work happens in threads."""

    def __init__(self, store: BlobStore, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._store = store
        self._idle_seconds = idle_seconds

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

        return blob_service_pb2.FindMissingBlobsResponse(missing=await _in_thread(look))

    async def UploadBlob(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[blob_service_pb2.UploadBlobRequest], context: Any
    ) -> blob_service_pb2.UploadBlobResponse:
        """Stores one blob."""
        first = await self._next(request_iterator)
        if first is None or not first.HasField("blob"):
            raise InvalidRequestError("the first message of an upload names the blob")
        ref = first.blob
        if await _in_thread(self._store.has, ref):
            await _in_thread(self._store.touch, [ref])
            return blob_service_pb2.UploadBlobResponse(blob=ref)
        upload = await _in_thread(self._store.begin, ref, first.offset, undo=Upload.discard)
        try:
            await self._receive(upload, first, request_iterator)
            held = await _in_thread(upload.commit)
        except InvalidRequestError:
            await _in_thread(upload.discard)
            raise
        except BaseException:
            await _in_thread(upload.suspend)
            raise
        return blob_service_pb2.UploadBlobResponse(blob=held)

    async def _receive(
        self,
        upload: Upload,
        first: blob_service_pb2.UploadBlobRequest,
        rest: AsyncIterator[blob_service_pb2.UploadBlobRequest],
    ) -> None:
        """Writes one piece while the next one arrives."""
        writing: asyncio.Task[None] | None = None
        message: blob_service_pb2.UploadBlobRequest | None = first
        try:
            while message is not None:
                if message is not first and message.HasField("blob"):
                    raise InvalidRequestError("only the first message of an upload names the blob")
                if message is not first and not message.data:
                    raise InvalidRequestError("a message of an upload carries data; this one has none")
                if len(message.data) > PIECE_BYTES:
                    raise InvalidRequestError(
                        f"a message carries at most {PIECE_BYTES} bytes, not {len(message.data)}; send smaller pieces"
                    )
                if writing is not None:
                    await writing
                writing = asyncio.create_task(_in_thread(upload.append, message.data))
                message = await self._next(rest)
        finally:
            if writing is not None:
                await writing

    async def _next(
        self, requests: AsyncIterator[blob_service_pb2.UploadBlobRequest]
    ) -> blob_service_pb2.UploadBlobRequest | None:
        try:
            return await asyncio.wait_for(anext(requests), self._idle_seconds)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise DeadlineExceededError(
                f"the upload sent nothing for {self._idle_seconds:g} seconds; ask what is missing and go on there"
            ) from None

    async def DownloadBlob(  # noqa: N802  # the contract's name
        self, request: blob_service_pb2.DownloadBlobRequest, context: Any
    ) -> AsyncIterator[blob_service_pb2.DownloadBlobResponse]:
        """Sends one blob from an offset on."""
        ref = request.blob
        if not 0 <= request.offset <= ref.size_bytes:
            raise InvalidRequestError(f"the offset {request.offset} is outside the blob of {ref.size_bytes} bytes")
        place = await _in_thread(self._store.path, ref)
        file = await _in_thread(_opened, place, undo=IO.close)
        try:
            await _in_thread(file.seek, request.offset)
            # The next piece is read while this one is sent.
            reading = asyncio.create_task(_in_thread(file.read, PIECE_BYTES))
            try:
                while data := await reading:
                    reading = asyncio.create_task(_in_thread(file.read, PIECE_BYTES))
                    yield blob_service_pb2.DownloadBlobResponse(data=data)
            finally:
                await asyncio.wait([reading])
        finally:
            file.close()


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


async def _in_thread(work: Callable[..., R], *arguments: Any, undo: Callable[[Any], object] | None = None) -> R:
    """Does file work in a thread; also a cancelled call waits for it, so that no file is closed under it.

    Args:
        work: What to do.
        arguments: For `work`.
        undo: Called with the result if the call was cancelled meanwhile, since nobody else will have it.

    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if undo is not None and task.exception() is None:
            undo(task.result())
        raise
