"""Thumbnails: small, of every kind of image, and nothing where there is no image."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tunevane.api.type.v1.blob_pb2 import BlobRef
from tunevane.core import bundles
from tunevane.core.examples import read
from tunevane.storage.blobs import BlobStore
from tunevane.storage.thumbnails import MAX_BYTES, SIDE, Thumbnails


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def opened(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    content = base64.b64decode(data)
    assert len(content) <= MAX_BYTES
    return Image.open(io.BytesIO(content))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.new("RGB", (600, 400), "teal"), "JPEG"),
        encoded(NOISE, "PNG"),
        encoded(Image.new("RGBA", (600, 400), (0, 0, 0, 0)), "WEBP"),
        encoded(Image.new("P", (600, 400)), "GIF"),
        encoded(Image.new("CMYK", (600, 400)), "JPEG"),
        encoded(Image.new("1", (600, 400)), "PNG"),
        encoded(Image.new("I;16", (600, 400)), "PNG"),
    ],
)
def test_every_kind_of_image_becomes_small(store: BlobStore, content: bytes) -> None:
    picture = opened(Thumbnails(store).of(store.put_bytes(content)))
    assert picture.size == (SIDE, SIDE * 400 // 600)


def test_a_photograph_stands_upright(store: BlobStore) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.new("RGB", (600, 400)), "JPEG", exif=exif)
    assert opened(Thumbnails(store).of(store.put_bytes(content))).size == (SIDE * 400 // 600, SIDE)


@pytest.mark.parametrize("content", [b"", b"no image", encoded(NOISE, "PNG")[:5000]])
def test_what_cannot_be_read_has_none(store: BlobStore, content: bytes) -> None:
    assert Thumbnails(store).of(store.put_bytes(content)) == ""


def test_what_is_not_there_has_none(store: BlobStore) -> None:
    assert Thumbnails(store).of(BlobRef(blake3="0" * 64, size_bytes=1)) == ""


def test_examples_show_pictures_in_place_of_paths(store: BlobStore) -> None:
    images = {
        f"images/{n}.png": encoded(Image.new("RGB", (8, 8), colour), "PNG") for n, colour in enumerate(("red", "blue"))
    }
    query_data = bundles.make({"images/0.png": store.put_bytes(images["images/0.png"])})
    index_data = bundles.make({"images/1.png": store.put_bytes(images["images/1.png"])})
    found: Mapping[str, object] = {
        "queries": [
            {
                "id": "q",
                "text": None,
                "image": "images/0.png",
                "results": [
                    {"id": "d", "text": "blue", "image": "images/1.png", "score": 0.5, "relevant": True},
                    {"id": "e", "text": "gone", "image": "images/2.png", "score": 0.4, "relevant": False},
                    {"id": "f", "text": "plain", "score": 0.3, "relevant": False},
                ],
            }
        ]
    }
    shown = Thumbnails(store).pictured(found, [query_data, index_data])
    (query,) = read({"m": shown})["m"]
    assert opened(query.image).convert("RGB").getpixel((4, 4)) == (254, 0, 0)
    assert [bool(match.image) for match in query.results] == [True, False, False]
    assert [match.text for match in query.results] == ["blue", "gone", "plain"]
    assert "images/2.png" not in str(shown)


def test_a_document_without_images_stays_as_it_is(store: BlobStore) -> None:
    found: dict[str, object] = {
        "queries": [{"id": "q", "text": "a", "results": [{"id": "d", "score": 1.0}]}],
        "more": 1,
    }
    assert Thumbnails(store).pictured(found, []) == found
    assert Thumbnails(store).pictured({}, []) == {"queries": []}
