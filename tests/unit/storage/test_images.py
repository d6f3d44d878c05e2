"""Images come in as paths, URLs, bytes and arrays; each is kept once, as it was, and only if it decodes."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets as hugging
import numpy as np
import pandas
import pytest
from PIL import Image

from support.documents import BaseDoc, DocList, ImageDoc, TextDoc
from tunevane.core import bundles
from tunevane.core.dataset import Dataset
from tunevane.errors import DataFormatError
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane.storage.readers import download
from tunevane.storage.readers import images as module


def encoded(seed: int, suffix: str = "png", size: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format={"jpg": "JPEG"}.get(suffix, suffix.upper()))
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(["red.png", "green.jpg", "blue one.webp", "sub/deep.GIF"]):
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(seed, name.rpartition(".")[2].lower()))
    (tmp_path / "data" / "again.png").write_bytes(encoded(0))
    return tmp_path / "data"


class _Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
        elif self.path == "/escape.png":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1:9/a.png")
            self.end_headers()
        elif self.path in ("/a.png", "/picture?size=8"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded(0))
        elif self.path == "/huge.png":
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):  # the client leaves early
                self.wfile.write(b"x" * 5_000_000)
        elif self.path == "/silent.png":
            self.server.enough.wait(30)  # type: ignore[attr-defined]  # set below
        else:
            self.send_error(404, "no such picture")

    def log_message(self, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pictures)
    server.enough = threading.Event()  # type: ignore[attr-defined]  # our own
    server.daemon_threads = False  # so that closing waits for them
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients that leave are expected
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.enough.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def shown(data: Dataset) -> list[tuple[str | None, bool]]:
    return [(item.text, item.image is not None) for item in data.items]


def test_csv_pairs_in_either_order_are_joined_over_both_kinds(folder: Path, store: BlobStore) -> None:
    rows = "a red one,red.png\ngreen.jpg,a green one\nagain.png,also red\nsub/deep.GIF,blue one.webp\n"
    (folder / "pairs.csv").write_text(rows)
    bundle = datasets.write(folder / "pairs.csv", store)
    data = datasets.load(bundle, store)
    assert data.kind == "pairs"
    assert shown(data) == [
        ("a red one", False),
        (None, True),
        (None, True),
        ("a green one", False),
        ("also red", False),
        (None, True),
        (None, True),
    ]
    # 'again.png' has the bytes of 'red.png', so both texts are of one group and the bundle has the image once.
    labels = [item.label for item in data.items]
    assert labels[0] == labels[1] == labels[4]
    assert len(set(labels)) == 3
    images = [file for file in bundle.files if file.path.startswith("images/")]
    assert len(images) == 4
    assert sorted(file.path.rpartition(".")[2] for file in images) == ["gif", "jpg", "png", "webp"]
    assert store.read(bundles.get(bundle, str(data.items[1].image))) == (folder / "red.png").read_bytes()


def test_csv_with_labels_and_with_scores(folder: Path, store: BlobStore) -> None:
    (folder / "labelled.csv").write_text("red.png,r\na text,r\n")
    assert shown(datasets.read(folder / "labelled.csv", is_labeled=True)) == [(None, True), ("a text", False)]
    (folder / "scored.csv").write_text("query,document,score\nred.png,a text,0.5\n")
    scored = datasets.load(datasets.write(folder / "scored.csv", store), store)
    assert (scored.kind, shown(scored)) == ("scored", [(None, True), ("a text", False)])


def test_a_text_that_only_ends_like_a_picture_is_a_text(folder: Path) -> None:
    (folder / "pairs.csv").write_text('see the file red.png,"blue one.webp"\n')
    assert shown(datasets.read(folder / "pairs.csv")) == [("see the file red.png", False), (None, True)]
    assert shown(datasets.read([{"text": "red.png"}])) == [("red.png", False)]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_files_of_records(folder: Path, store: BlobStore, kind: str) -> None:
    table = pandas.DataFrame(
        [
            {"id": "one", "text": "a red one", "image": "red.png", "label": "r"},
            {"id": "two", "text": None, "image": "data:image/png;base64," + base64.b64encode(encoded(9)).decode()},
            {"id": "three", "text": "only text", "image": None},
        ]
    )
    path = folder / f"items.{kind}"
    if kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    data = datasets.load(datasets.write(path, store), store)
    assert shown(data) == [("a red one", True), (None, True), ("only text", False)]
    assert [item.id for item in data.items] == ["one", "two", "three"]
    assert datasets.read(path) == data


def test_every_way_to_give_the_same_image(folder: Path, store: BlobStore) -> None:
    path = folder / "red.png"
    data, image = path.read_bytes(), Image.open(path)
    pixels = np.asarray(image)
    given: list[dict[str, Any]] = [{"image": each} for each in (path, str(path), data, memoryview(data))]
    given += [{"image": {"bytes": data, "path": None}}, {"image": {"bytes": None, "path": str(path)}}]
    given += [{name: data} for name in ("img", "picture", "blob")] + [{"content": data}, {"document": str(path)}]
    same = datasets.write(given, store)
    assert [file.path for file in same.files if "images/" in file.path] == [module_path(data)]
    # Arrays have no file, so these become PNGs of the same pixels.
    arrays = [{"image": image}, {"image": pixels}, {"tensor": pixels / 255.0}, {"image": pixels.astype(np.int64)}]
    drawn = datasets.write(arrays, store)
    (kept,) = [file for file in drawn.files if "images/" in file.path]
    np.testing.assert_array_equal(np.asarray(Image.open(store.path(kept.blob))), pixels)


def module_path(data: bytes) -> str:
    from blake3 import blake3

    return f"images/{blake3(data).hexdigest()}.png"


def test_tables_of_datasets(store: BlobStore, folder: Path) -> None:
    table = hugging.Dataset.from_dict({"image": [str(folder / "red.png")], "label": ["r"]})
    for features in (None, hugging.Features({"image": hugging.Image(), "label": hugging.Value("string")})):
        typed = table if features is None else table.cast(features)
        data = datasets.load(datasets.write(typed, store), store)
        assert shown(data) == [(None, True)]
        assert data.labels == ("r",)


class Captioned(BaseDoc):
    query: TextDoc
    document: ImageDoc


picture: Any = ImageDoc  # its fields take more than their types say


def test_documents(store: BlobStore, folder: Path) -> None:
    pairs = DocList[Captioned](
        [
            Captioned(query=TextDoc(text="red"), document=picture(url=str(folder / "red.png"))),
            Captioned(query=TextDoc(text="some"), document=picture(tensor=np.zeros((4, 4, 3), np.uint8))),
        ]
    )
    data = datasets.load(datasets.write(pairs, store), store)
    assert (data.kind, shown(data)) == ("pairs", [("red", False), (None, True), ("some", False), (None, True)])
    single = DocList[ImageDoc]([picture(id="x", url=str(folder / "red.png"))])
    (item,) = datasets.read(single).items
    assert (item.id, item.text, item.image) == ("x", None, data.items[1].image)


def test_a_pair_of_texts_with_images(store: BlobStore, folder: Path) -> None:
    sides = [{"text": f"t{n}", "image": str(folder / name)} for n, name in enumerate(["red.png", "green.jpg"])]
    data = datasets.load(datasets.write([{"query": sides[0], "document": sides[1]}], store), store)
    assert shown(data) == [("t0", True), ("t1", True)]


def test_urls(store: BlobStore, web: str) -> None:
    rows = [{"query": "a", "document": f"{web}/a.png"}, {"query": "b", "document": f"{web}/moved.png"}]
    bundle = datasets.write(rows, store)
    assert len([file for file in bundle.files if file.path.startswith("images/")]) == 1
    # Without a suffix, only a field that is known to hold images is fetched.
    assert shown(datasets.read([{"image": f"{web}/picture?size=8"}])) == [(None, True)]
    assert shown(datasets.read([{"content": f"{web}/picture?size=8"}])) == [(f"{web}/picture?size=8", False)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/none.png", "that cannot be fetched: the server answers 404 no such picture"),
        ("/escape.png", "behind a 'ftp' address"),
        ("/huge.png", "that is larger than 1000000 bytes"),
        ("/silent.png", "that took longer than 0.3 seconds to fetch"),
    ],
)
def test_urls_that_give_no_image(web: str, path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(download, "SECONDS", 0.3 if "silent" in path else 20)
    with pytest.raises(DataFormatError) as caught:
        datasets.read([{"text": "a"}, {"image": f"{web}{path}"}])
    assert f"the list, record 2: has the image '{web}{path}'" in caught.value.message
    assert reason in caught.value.message


def test_nobody_listens() -> None:
    with pytest.raises(DataFormatError, match="that cannot be fetched: .*refused"):
        datasets.read([{"image": "http://127.0.0.1:9/a.png"}])


def test_a_truncated_file_is_named_before_anything_is_stored(folder: Path, store: BlobStore) -> None:
    (folder / "torn.jpg").write_bytes(encoded(3, "jpg", 64)[:-200])
    (folder / "pairs.csv").write_text("text,torn.jpg\n")
    before = set(store.digests())
    with pytest.raises(DataFormatError, match=r"pairs\.csv, line 1: has the image 'torn\.jpg' that does not decode"):
        datasets.write(folder / "pairs.csv", store)
    assert set(store.digests()) == before


def test_limits(folder: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 63)
    with pytest.raises(DataFormatError, match="of 8 x 8 pixels; at most 63 are read"):
        datasets.read([{"image": encoded(0)}])
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(DataFormatError, match="bytes; at most 10 are read"):
        datasets.read([{"image": encoded(0)}])
    with pytest.raises(DataFormatError, match=r"red\.png' of \d+ bytes; at most 10 are read"):
        datasets.read([{"image": folder / "red.png"}])
    monkeypatch.undo()
    monkeypatch.setattr(module, "MAX_IMAGES", 2)
    with pytest.raises(DataFormatError, match="record 4: has an image beyond the 2 different ones"):
        datasets.write([{"image": encoded(seed)} for seed in (0, 1, 0, 2)], store)
    monkeypatch.undo()
    ico = io.BytesIO()
    Image.new("RGB", (16, 16)).save(ico, format="ICO")
    with pytest.raises(DataFormatError, match="in the format ICO; read are PNG, JPEG"):
        datasets.read([{"image": ico.getvalue()}])
