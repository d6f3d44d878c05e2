"""Images as people give them: paths, URLs, bytes, arrays; each distinct one is kept once, and only if it decodes."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from blake3 import blake3

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import DataFormatError
from tunevane.storage.blobs import BlobStore
from tunevane.storage.readers.download import MAX_BYTES, download
from tunevane.storage.readers.place import Source, shown

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
MAX_PIXELS = 64_000_000
"""Width times height of the largest image: 256 MB once decoded."""

MAX_IMAGES = bundles.MAX_FILES - 3
"""Distinct images that fit into a bundle beside its other files."""

_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)


class Images:
    """The distinct images of one source."""

    def __init__(self, store: BlobStore | None = None, folder: Path | None = None) -> None:
        """Starts empty.

        Args:
            store: Where the images' bytes are kept; None checks and names them only.
            folder: Where relative paths begin; None is the working folder.

        """
        self._store = store
        self._folder = Path() if folder is None else folder
        self._path_of: dict[str, str] = {}
        self._blobs: dict[str, blob_pb2.BlobRef] = {}

    @property
    def blobs(self) -> Mapping[str, blob_pb2.BlobRef]:
        """The images kept so far, by path in the bundle."""
        return self._blobs

    def is_reference(self, text: str) -> bool:
        """Tells whether a text that may be either names an image: by data URI, URL, or path with an image's suffix."""
        if _DATA_URI.match(text):
            return True
        if "\n" in text or len(text) > 2048:
            return False
        if text.startswith(("http://", "https://")):
            return not re.search(r"\s", text) and _suffix(urlsplit(text).path) in SUFFIXES
        if _suffix(text) not in SUFFIXES:
            return False
        return not re.search(r"\s", text) or (self._folder / text).expanduser().is_file()

    def add(self, source: Source, number: int, value: object) -> str:
        """Keeps an image.

        Args:
            source: What is being read, for complaints.
            number: The row.
            value: A path, URL, data URI, bytes, a mapping with `bytes` or `path`, a PIL image, or an array of pixels
                `[h, w]` or `[h, w, c]`, either bytes or numbers in [0, 1].

        Returns:
            The path of the image in the bundle.

        Raises:
            DataFormatError: It cannot be had, is too large, or does not decode; names the row.

        """
        if isinstance(value, Mapping):
            value = value["bytes"] if value.get("bytes") is not None else value.get("path")
        key = str(value) if isinstance(value, str | os.PathLike) else None
        if key is not None and key in self._path_of:
            return self._path_of[key]
        name = f"the image {shown(key)}" if key is not None else "an image"
        try:
            data = self._bytes_of(value)
            path = self._keep(data)
        except DataFormatError as error:
            source.refuse(number, f"has {name} {error.message}")
        if key is not None and not key.startswith("data:"):
            self._path_of[key] = path
        return path

    def _bytes_of(self, value: object) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if isinstance(value, str | os.PathLike):
            return self._read(os.fspath(value))
        if hasattr(value, "convert") and hasattr(value, "tobytes") and hasattr(value, "size"):
            return _png(value)
        if hasattr(value, "__array__"):
            return _png(_of_pixels(value))
        raise DataFormatError(f"of type {type(value).__name__}; give a path, a URL, bytes, a PIL image or an array")

    def _read(self, reference: object) -> bytes:
        if not isinstance(reference, str):
            raise DataFormatError("whose path is bytes; give text")
        if reference.startswith("data:"):
            head, _, body = reference.partition(",")
            if not _DATA_URI.match(f"{head},"):
                raise DataFormatError("in a data URI that is not of the form data:image/...;base64,...")
            try:
                return base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError):
                raise DataFormatError("in a data URI whose base64 is malformed") from None
        if "://" in reference:
            return download(reference)
        path = (self._folder / reference).expanduser()
        try:
            if not path.is_file():
                raise DataFormatError("which is no file here")
            if path.stat().st_size > MAX_BYTES:
                raise DataFormatError(f"of {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise DataFormatError(f"which cannot be read: {error}") from error

    def _keep(self, data: bytes) -> str:
        digest = blake3(data).hexdigest()
        found = self._path_of.get(digest)
        if found is not None:
            return found
        path = f"images/{digest}.{_checked(data)}"
        if len(self._blobs) >= MAX_IMAGES:
            raise DataFormatError(f"beyond the {MAX_IMAGES} different ones that a data set holds; split the set")
        if self._store is not None:
            self._blobs[path] = self._store.put_bytes(data)
        else:
            self._blobs[path] = blob_pb2.BlobRef(blake3=digest, size_bytes=len(data))
        self._path_of[digest] = path
        return path


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _checked(data: bytes) -> str:
    """Decodes an image once and returns the suffix of its format.

    Raises:
        DataFormatError: It is too large, of an unknown format, or does not decode.

    """
    from PIL import Image, UnidentifiedImageError

    if len(data) > MAX_BYTES:
        raise DataFormatError(f"of {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format not in FORMATS:
                raise DataFormatError(f"in the format {image.format}; read are {', '.join(FORMATS)}")
            if image.width * image.height > MAX_PIXELS:
                raise DataFormatError(f"of {image.width} x {image.height} pixels; at most {MAX_PIXELS} are read")
            image.load()
            return FORMATS[image.format]
    except UnidentifiedImageError:
        raise DataFormatError(
            f"that does not decode: its {len(data)} bytes are in no known format ({', '.join(FORMATS)})"
        ) from None
    except DataFormatError:
        raise
    except Exception as error:  # every decoder of PIL has errors of its own kind
        raise DataFormatError(f"that does not decode: {error}") from error


def _png(image: Any) -> bytes:  # Any: a PIL image, which is not imported here
    """Writes an image without loss."""
    buffer = io.BytesIO()
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _of_pixels(value: Any) -> Image:  # Any: whatever becomes an array
    import numpy as np
    from PIL import Image

    pixels = np.asarray(value)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise DataFormatError(f"as an array of shape {list(pixels.shape)}; [h, w] or [h, w, 3] is needed")
    if pixels.dtype.kind == "f":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise DataFormatError("as an array of numbers outside [0, 1]; scale it, or give bytes")
        pixels = np.round(pixels * 255)
    elif pixels.dtype.kind not in "iub" or pixels.min() < 0 or pixels.max() > 255:
        raise DataFormatError(f"as an array of {pixels.dtype} with values outside [0, 255]; give bytes")
    return Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
