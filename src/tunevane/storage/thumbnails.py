"""Small pictures for people: what example results show in place of the paths of images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from tunevane.api.type.v1 import blob_pb2
from tunevane.errors import NotFoundError
from tunevane.storage.blobs import BlobStore

SIDE = 96
"""Pixels of the longer side."""

MAX_BYTES = 8 * 1024
"""Size of a thumbnail at most; one that does not get that small is left out."""


class Thumbnails:
    """Makes thumbnails of images in a store, each once."""

    def __init__(self, store: BlobStore) -> None:
        """Starts with none."""
        self._store = store
        self._made: dict[str, str] = {}

    def pictured(self, document: Mapping[str, object], of: Sequence[blob_pb2.Bundle]) -> dict[str, object]:
        """Copies a document of example results with thumbnails, as data URIs, in place of the paths of images.

        Args:
            document: `{"queries": [{"id", "text", "image", "results": [{"id", "text", "image", ...}]}]}`.
            of: The bundles that the paths are in. An image that none of them has, or that cannot be read, is left out.

        """
        refs = {file.path: file.blob for bundle in of for file in bundle.files}
        queries = document.get("queries")
        shown = []
        for query in queries if isinstance(queries, list) else []:
            results = [self._item(result, refs) for result in query.get("results", [])]
            shown.append({**self._item(query, refs), "results": results})
        return {**document, "queries": shown}

    def _item(self, item: Mapping[str, object], refs: Mapping[str, blob_pb2.BlobRef]) -> dict[str, object]:
        copy = dict(item)
        path = copy.pop("image", None)
        ref = refs.get(path) if isinstance(path, str) else None
        if ref is not None and (uri := self.of(ref)):
            copy["image"] = uri
        return copy

    def of(self, ref: blob_pb2.BlobRef) -> str:
        """Returns the thumbnail of an image as a data URI; empty when there is none to be had."""
        if ref.blake3 not in self._made:
            try:
                content = self._store.read(ref)
            except NotFoundError:
                return ""
            self._made[ref.blake3] = _data_uri(content)
        return self._made[ref.blake3]


def _data_uri(content: bytes) -> str:
    import PIL.Image
    import PIL.ImageOps

    try:
        with PIL.Image.open(io.BytesIO(content)) as opened:
            # A JPEG is decoded at the size that is needed, which saves most of the time.
            opened.draft("RGB", (SIDE, SIDE))
            picture = PIL.ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return ""
    picture.thumbnail((SIDE, SIDE))
    ground = PIL.Image.new("RGBA", picture.size, "white")
    flat = PIL.Image.alpha_composite(ground, picture).convert("RGB")
    for quality in (80, 60, 40):
        made = io.BytesIO()
        flat.save(made, "JPEG", quality=quality)
        if made.tell() <= MAX_BYTES:
            return "data:image/jpeg;base64," + base64.b64encode(made.getvalue()).decode()
    return ""
