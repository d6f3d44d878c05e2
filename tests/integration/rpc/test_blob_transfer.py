"""Blobs move whole or not at all, whatever happens to the connection, the sender, or the disk."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3

from support.proxy import proxied
from support.server import running
from tunevane.api.blob.v1 import blob_service_pb2, blob_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import (
    DataLossError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    StorageFullError,
)
from tunevane.rpc.blobs import SERVICE_NAME, BlobClient, BlobServicer
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import PIECE_BYTES, BlobStore
from tunevane.storage.disk import Disk

Request = blob_service_pb2.UploadBlobRequest


class FullDisk(Disk):
    """A disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.wrote = threading.Event()

    def write(self, handle: int, data: memoryview) -> int:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        taken = super().write(handle, data)
        self.wrote.set()
        return taken


class Watched(BlobServicer):
    """Tells when an upload has ended, in whatever way."""

    def __init__(self, store: BlobStore, *, idle_seconds: float) -> None:
        super().__init__(store, idle_seconds=idle_seconds)
        self.ended = threading.Event()

    async def UploadBlob(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[Request], context: Any
    ) -> blob_service_pb2.UploadBlobResponse:
        try:
            return await super().UploadBlob(request_iterator, context)
        finally:
            self.ended.set()


class Place:
    """A service with a store, and a store and a client of our own."""

    def __init__(self, root: Path, idle_seconds: float = 60.0) -> None:
        self.disk = FullDisk(1 << 40)
        self.far = BlobStore(root / "far", self.disk)
        self.near = BlobStore(root / "near")
        self.servicer = Watched(self.far, idle_seconds=idle_seconds)

    def register(self, server: grpc.aio.Server) -> list[str]:
        blob_service_pb2_grpc.add_BlobServiceServicer_to_server(self.servicer, server)
        return [SERVICE_NAME]

    def leftovers(self) -> list[str]:
        return [each.name for each in (self.far.root / "partial").iterdir()]


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(name="target")
def _target(place: Place) -> Iterator[str]:
    with running(place.register) as target:
        yield target


@pytest.fixture(name="channel")
def _channel(target: str) -> Iterator[grpc.Channel]:
    with connect(target, timeout_seconds=20) as channel:
        yield channel


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
def test_there_and_back(place: Place, channel: grpc.Channel, size: int, tmp_path: Path) -> None:
    data = content(size)
    ref = place.near.put_bytes(data)
    client = BlobClient(channel)
    seen: list[tuple[int, int]] = []
    assert client.push(place.near, [ref, ref], lambda done, total: seen.append((done, total))) == size
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert client.push(place.near, [ref]) == 0
    assert place.far.read(ref) == data
    other = BlobStore(tmp_path / "other")
    client.fetch([ref], other)
    assert other.read(ref) == data
    client.download_to(ref, tmp_path / "a" / "file", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "a" / "file").read_bytes() == data
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["file"]
    assert place.leftovers() == []


def test_only_missing_blobs_are_sent(place: Place, channel: grpc.Channel) -> None:
    first, second = place.near.put_bytes(b"one"), place.near.put_bytes(b"second")
    client = BlobClient(channel)
    client.push(place.near, [first])
    assert [ref.blake3 for ref, _ in client.find_missing([first, second])] == [second.blake3]
    assert client.push(place.near, [first, second]) == len(b"second")


def test_an_upload_goes_on_after_cuts(place: Place, target: str) -> None:
    data = content(12 * PIECE_BYTES)
    ref = place.near.put_bytes(data)
    with proxied(target) as proxy, connect(proxy.target) as channel:
        proxy.cut_after = [4 * PIECE_BYTES, 5 * PIECE_BYTES]
        seen: list[int] = []
        assert BlobClient(channel).push(place.near, [ref], lambda done, _: seen.append(done)) == len(data)
        assert len(proxy.passed) == 3
    assert place.far.read(ref) == data
    assert place.leftovers() == []
    assert seen[-1] == len(data)
    # The last connection carried what was missing, not the blob.
    assert proxy.passed[-1] < len(data) - PIECE_BYTES


def test_a_download_goes_on_after_the_server_was_replaced(place: Place, tmp_path: Path) -> None:
    # Larger than what the buffers on the way can hold, so that the break finds something still to send.
    data = content(64 * PIECE_BYTES)
    ref = place.far.put_bytes(data)
    with running(place.register) as target, proxied(target) as proxy, connect(proxy.target) as channel:
        other = BlobStore(tmp_path / "other")
        broken: list[int] = []

        def progress(done: int, total: int) -> None:
            if done >= 3 * PIECE_BYTES and not broken:
                broken.append(done)
                proxy.break_all()

        BlobClient(channel).fetch([ref], other, progress)
        assert broken
        assert len(proxy.passed) == 2
    assert other.read(ref) == data


def test_wrong_bytes_are_data_loss_and_no_blob(place: Place, channel: grpc.Channel) -> None:
    ref = place.near.put_bytes(content(2 * PIECE_BYTES))
    wrong = bytearray(place.near.read(ref))
    wrong[PIECE_BYTES + 5] ^= 1
    pieces = [Request(blob=ref, data=bytes(wrong[:PIECE_BYTES])), Request(data=bytes(wrong[PIECE_BYTES:]))]
    with pytest.raises(DataLossError):
        blob_service_pb2_grpc.BlobServiceStub(channel).UploadBlob(iter(pieces))
    assert not place.far.has(ref)
    assert place.leftovers() == []
    # A file that changed on the disk of the sender is wrong however often it is sent.
    place.near.path(ref).write_bytes(wrong)
    with pytest.raises(DataLossError):
        BlobClient(channel).push(place.near, [ref])
    assert not place.far.has(ref)
    assert place.leftovers() == []


@pytest.mark.parametrize("offset", [700_000, PIECE_BYTES + 300_001, 2 * PIECE_BYTES - 40_000])
def test_a_bit_flipped_on_the_way_is_noticed_and_the_blob_sent_again(place: Place, target: str, offset: int) -> None:
    ref = place.near.put_bytes(content(2 * PIECE_BYTES))
    with proxied(target) as proxy:
        proxy.flip_at = offset
        with connect(proxy.target) as channel:
            BlobClient(channel).push(place.near, [ref])
        assert sum(proxy.passed) > ref.size_bytes + offset
    assert place.far.read(ref) == place.near.read(ref)
    assert place.leftovers() == []


def test_a_damaged_beginning_is_thrown_away_and_sent_again(place: Place, channel: grpc.Channel) -> None:
    ref = place.near.put_bytes(content(3 * PIECE_BYTES))
    upload = place.far.begin(ref, 0)
    upload.append(b"\0" * PIECE_BYTES)
    upload.suspend()
    assert place.far.missing([ref])[0][1] == PIECE_BYTES
    BlobClient(channel).push(place.near, [ref])
    assert place.far.has(ref)


def test_a_blob_damaged_at_the_service_does_not_arrive(place: Place, channel: grpc.Channel, tmp_path: Path) -> None:
    ref = place.far.put_bytes(content(PIECE_BYTES + 1))
    file = place.far.path(ref)
    file.write_bytes(bytes(PIECE_BYTES + 1))
    other = BlobStore(tmp_path / "other")
    with pytest.raises(DataLossError):
        BlobClient(channel).fetch([ref], other)
    assert not other.has(ref)
    with pytest.raises(DataLossError):
        BlobClient(channel).download_to(ref, tmp_path / "file")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["far", "near", "other"]
    file.write_bytes(b"short")
    with pytest.raises(NotFoundError):
        BlobClient(channel).fetch([ref], other)


_SENDER = """
import sys
from tunevane.api.blob.v1 import blob_service_pb2 as pb, blob_service_pb2_grpc as stubs
from tunevane.api.type.v1 import blob_pb2
from tunevane.rpc.channel import connect
target, digest, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
def pieces():
    yield pb.UploadBlobRequest(blob=blob_pb2.BlobRef(blake3=digest, size_bytes=size), data=bytes(1 << 20))
    yield pb.UploadBlobRequest(data=bytes(1 << 20))
    print("sent", flush=True)
    sys.stdin.read()
stubs.BlobServiceStub(connect(target)).UploadBlob(pieces())
"""


def test_a_sender_killed_midway_leaves_no_blob(place: Place, target: str, channel: grpc.Channel) -> None:
    data = bytes(2 * PIECE_BYTES) + b"the end"
    ref = blob_pb2.BlobRef(blake3=blake3(data).hexdigest(), size_bytes=len(data))
    sender = subprocess.Popen(
        [sys.executable, "-c", _SENDER, target, ref.blake3, str(ref.size_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"sent\n"
        assert place.disk.wrote.wait(10)
        sender.send_signal(signal.SIGKILL)
    client = BlobClient(channel)
    assert place.servicer.ended.wait(10)
    assert place.leftovers() == [ref.blake3]
    assert client.find_missing([ref])[0][1] > 0
    assert not place.far.has(ref)
    near = place.near.put_bytes(data)
    assert client.push(place.near, [near]) < len(data)
    assert place.far.read(ref) == data


def test_a_sender_that_falls_silent_is_let_go(tmp_path: Path) -> None:
    place = Place(tmp_path, idle_seconds=0.2)
    silent = threading.Event()

    def pieces() -> Iterator[Request]:
        yield Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=5), data=b"ab")
        silent.wait()

    with running(place.register) as target, connect(target) as channel:
        try:
            with pytest.raises(DeadlineExceededError, match="sent nothing"):
                blob_service_pb2_grpc.BlobServiceStub(channel).UploadBlob(pieces())
        finally:
            silent.set()


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [Request(data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 63, size_bytes=1), data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="../" + "0" * 61, size_bytes=1), data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="A" * 64, size_bytes=1), data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=0))],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=-1))],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=1), data=b"xx")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=2), data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=2), offset=1, data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=2), offset=-1, data=b"x")],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=2)), Request()],
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=2))] * 2,
        [Request(blob=blob_pb2.BlobRef(blake3="0" * 64, size_bytes=9 << 20), data=bytes(PIECE_BYTES + 1))],
    ],
)
def test_uploads_that_break_the_contract_are_refused(
    place: Place, channel: grpc.Channel, pieces: list[Request]
) -> None:
    with pytest.raises(InvalidRequestError):
        blob_service_pb2_grpc.BlobServiceStub(channel).UploadBlob(iter(pieces))
    assert list(place.far.digests()) == []
    assert not [name for name in place.leftovers() if name.startswith("upload")]
    # A good one works afterwards.
    assert BlobClient(channel).push(place.near, [place.near.put_bytes(b"good")]) == 4


def test_downloads_that_break_the_contract_are_refused(place: Place, channel: grpc.Channel, tmp_path: Path) -> None:
    ref = place.far.put_bytes(b"abc")
    stub = blob_service_pb2_grpc.BlobServiceStub(channel)
    for offset in (-1, 4):
        with pytest.raises(InvalidRequestError):
            list(stub.DownloadBlob(blob_service_pb2.DownloadBlobRequest(blob=ref, offset=offset)))
    with pytest.raises(InvalidRequestError):
        list(stub.DownloadBlob(blob_service_pb2.DownloadBlobRequest()))
    with pytest.raises(NotFoundError):
        BlobClient(channel).fetch([blob_pb2.BlobRef(blake3="0" * 64, size_bytes=3)], BlobStore(tmp_path / "o"))
    with pytest.raises(InvalidRequestError, match="10000"):
        stub.FindMissingBlobs(blob_service_pb2.FindMissingBlobsRequest(blobs=[ref] * 10_001))


def test_a_full_disk_is_told_and_leaves_nothing(place: Place, channel: grpc.Channel) -> None:
    ref = place.near.put_bytes(content(3 * PIECE_BYTES))
    place.disk.room = 2 * PIECE_BYTES
    client = BlobClient(channel)
    with pytest.raises(StorageFullError, match=str(ref.size_bytes)):
        client.push(place.near, [ref])
    assert place.leftovers() == []
    place.disk.room = 1 << 40
    client.push(place.near, [ref])
    assert place.far.has(ref)


def test_a_blob_larger_than_the_disk_is_refused_before_it_is_sent(place: Place, channel: grpc.Channel) -> None:
    ref = blob_pb2.BlobRef(blake3="0" * 64, size_bytes=1 << 62)
    with pytest.raises(StorageFullError):
        blob_service_pb2_grpc.BlobServiceStub(channel).UploadBlob(iter([Request(blob=ref)]))
    assert place.leftovers() == []


def test_many_send_the_same_blob_at_once(place: Place, target: str) -> None:
    data = content(4 * PIECE_BYTES)
    ref = place.near.put_bytes(data)
    together = threading.Barrier(8)
    failures: list[BaseException] = []

    def send() -> None:
        try:
            with connect(target) as channel:
                together.wait(10)
                BlobClient(channel).push(place.near, [ref])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert place.far.read(ref) == data
    assert place.leftovers() == []
    assert [digest for digest, _, _ in place.far.digests()] == [ref.blake3]


def test_a_failing_progress_ends_the_upload(place: Place, channel: grpc.Channel) -> None:
    ref = place.near.put_bytes(content(8 * PIECE_BYTES))

    def progress(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        BlobClient(channel).push(place.near, [ref], progress)
    assert place.servicer.ended.wait(10)
