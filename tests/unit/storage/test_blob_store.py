"""A blob is whole or absent: after a crash between any two steps, on a full disk, with several writers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import DataLossError, InvalidRequestError, NotFoundError
from tunevane.storage.blobs import PARTIAL_LIFETIME_SECONDS, BlobStore

DATA = bytes(range(256)) * 1000


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def ref_of(data: bytes) -> blob_pb2.BlobRef:
    return blob_pb2.BlobRef(blake3=blake3(data).hexdigest(), size_bytes=len(data))


def leftovers(store: BlobStore) -> list[Path]:
    return list((store.root / "partial").iterdir())


def test_all_ways_in_give_the_same_blob(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    upload = store.begin(ref_of(DATA), 0)
    upload.append(DATA)
    made = [store.put_bytes(DATA), store.put_bytes(memoryview(DATA)), store.put_file(file)]
    made += [store.put_chunks([DATA[:5], b"", memoryview(DATA)[5:]]), upload.commit()]
    assert made == [ref_of(DATA)] * 5
    assert store.read(made[0]) == DATA
    assert store.path(made[0]).read_bytes() == DATA
    assert [(digest, size) for digest, size, _ in store.digests()] == [(made[0].blake3, len(DATA))]
    assert leftovers(store) == []
    store.delete(made[0].blake3)
    store.delete(made[0].blake3)
    assert not store.has(made[0])
    with pytest.raises(NotFoundError):
        store.path(made[0])


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    ref = store.put_bytes(b"")
    assert store.has(ref)
    assert store.read(ref) == b""


def test_a_multidimensional_view_counts_bytes(store: BlobStore) -> None:
    view = memoryview(bytes(24)).cast("i", (2, 3))
    assert store.put_chunks([view]) == store.put_bytes(view) == ref_of(bytes(24))


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(0, 300), max_size=6), st.integers(1, 50))
def test_an_upload_in_any_parts_with_any_breaks_gives_the_blob(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, breaks: list[int], piece: int
) -> None:
    store = BlobStore(tmp_path_factory.mktemp("store"))
    ref = ref_of(data)
    for end in breaks:
        ((_, received),) = store.missing([ref])
        upload = store.begin(ref, received)
        upload.append(data[received : max(received, min(end, len(data) - 1))])
        upload.suspend()
    ((_, received),) = store.missing([ref])
    assert received == min(max([0, *breaks]), len(data) - 1)
    upload = store.begin(ref, received)
    for start in range(received, len(data), piece):
        upload.append(data[start : start + piece])
    upload.commit()
    assert store.read(ref) == data
    assert leftovers(store) == []


def test_short_long_and_wrong_uploads(store: BlobStore) -> None:
    ref = ref_of(DATA)
    short = store.begin(ref, 0)
    short.append(DATA[:100])
    with pytest.raises(InvalidRequestError, match="ended after 100"):
        short.commit()
    assert store.missing([ref, ref]) == [(ref, 100)]
    with pytest.raises(InvalidRequestError, match="101"):
        store.begin(ref, 101)
    long = store.begin(ref, 100)
    with pytest.raises(InvalidRequestError, match="more arrived"):
        long.append(DATA)
    wrong = store.begin(ref, 100)
    wrong.append(bytes(len(DATA) - 100))
    with pytest.raises(DataLossError, match="from its start"):
        wrong.commit()
    assert store.missing([ref]) == [(ref, 0)]
    assert leftovers(store) == []


def test_damage_on_disk_is_noticed(store: BlobStore) -> None:
    ref = store.put_bytes(DATA)
    store.path(ref).write_bytes(DATA[:-1])
    assert not store.has(ref)
    assert store.put_bytes(DATA) == ref
    assert store.read(ref) == DATA
    store.path(ref).write_bytes(b"x" + DATA[1:])
    with pytest.raises(DataLossError, match="upload it again"):
        store.read(ref)
    assert not store.has(ref)


_CRASH = """
import os, sys
from pathlib import Path
from tunevane.storage.blobs import BlobStore
from tunevane.storage.disk import Disk

class Crashing(Disk):
    left = int(sys.argv[2])
    def step(self):
        if self.left == 0:
            os._exit(9)
        self.left -= 1
    def write(self, handle, data):
        self.step()
        return super().write(handle, data)
    def sync(self, handle):
        self.step()
        super().sync(handle)
    def rename(self, source, target):
        self.step()
        super().rename(source, target)
        self.step()
    def sync_folder(self, folder):
        self.step()
        super().sync_folder(folder)

store = BlobStore(Path(sys.argv[1]), Crashing())
store.put_chunks([b"a" * 1000, b"b" * 1000])
"""


def test_a_crash_between_any_two_steps_leaves_the_blob_absent_or_whole(tmp_path: Path) -> None:
    data = b"a" * 1000 + b"b" * 1000
    held = []
    # Steps: two writes, sync, sync of the new folder, rename, after it, sync of the folder; then it is done.
    for step in range(8):
        root = tmp_path / str(step)
        done = subprocess.run([sys.executable, "-c", _CRASH, str(root), str(step)], check=False)
        assert done.returncode == (9 if step < 7 else 0)
        store = BlobStore(root)
        ref = ref_of(data)
        held.append(store.has(ref))
        if held[-1]:
            assert store.read(ref) == data
        else:
            assert list(store.digests()) == []
            assert store.put_bytes(data) == ref
    assert held == [False] * 5 + [True] * 3


_FULL = """
import resource, sys
from pathlib import Path
from tunevane.errors import StorageFullError
from tunevane.storage.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
store = BlobStore(Path(sys.argv[1]))
store.put_bytes(b"x" * 5000)
try:
    store.put_chunks([b"y" * 3000, b"z" * 3000])
except StorageFullError as error:
    print(error)
print(len(list(store.digests())), len(list((store.root / "partial").iterdir())))
"""


def test_a_full_disk_names_path_and_bytes_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True, capture_output=True, text=True)
    sentence, counts = done.stdout.splitlines()
    assert str(tmp_path) in sentence
    assert "6000 bytes" in sentence
    assert counts == "1 0"


def test_old_partials_are_swept_at_the_start_and_young_ones_kept(store: BlobStore) -> None:
    old, young = ref_of(b"old one"), ref_of(b"young")
    for ref in (old, young):
        upload = store.begin(ref, 0)
        upload.append(b"o")
        upload.suspend()
    place = store.root / "partial" / old.blake3
    os.utime(place, (0, place.stat().st_mtime - PARTIAL_LIFETIME_SECONDS - 1))
    assert BlobStore(store.root).missing([old, young]) == [(old, 0), (young, 1)]


def test_two_stores_on_one_folder_are_one(store: BlobStore) -> None:
    other = BlobStore(store.root)
    ref = ref_of(DATA)
    uploads = [each.begin(ref, 0) for each in (store, other)]
    for upload in uploads:
        upload.append(DATA[:1000])
    for upload in uploads:
        upload.append(DATA[1000:])
        upload.commit()
    assert other.read(ref) == DATA
    assert store.read(ref) == DATA
    assert leftovers(store) == []


def test_writers_and_sweepers_at_once(store: BlobStore) -> None:
    failures: list[BaseException] = []
    contents = [bytes([number]) * 5000 for number in range(5)]

    def work() -> None:
        try:
            for data in contents:
                each = BlobStore(store.root)
                assert each.read(each.put_bytes(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert len(list(store.digests())) == 5


def test_touch_moves_the_last_use(store: BlobStore) -> None:
    ref = store.put_bytes(DATA)
    os.utime(store.path(ref), (0, 0))
    store.touch([ref, ref_of(b"not here")])
    ((_, _, used),) = store.digests()
    assert used > 1_000_000


@pytest.mark.parametrize(
    "digest", ["", "../" + "0" * 61, "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "\0", "0" * 63 + "\n"]
)
def test_a_digest_is_never_a_path(store: BlobStore, digest: str) -> None:
    ref = blob_pb2.BlobRef(blake3=digest, size_bytes=1)
    for ask in (
        store.has,
        store.path,
        store.read,
        lambda each: store.begin(each, 0),
        lambda each: store.missing([each]),
    ):
        with pytest.raises(InvalidRequestError):
            ask(ref)
    with pytest.raises(InvalidRequestError):
        store.touch([ref])
    with pytest.raises(InvalidRequestError):
        store.delete(digest)
