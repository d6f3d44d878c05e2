"""Images of data sets: decoded, and scaled to what a model takes."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunevane.api.type.v1 import blob_pb2
from tunevane.core.dataset import Item
from tunevane.errors import DataFormatError, InvalidRequestError
from tunevane.nn.feature_cache import Array
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from PIL.Image import Image


class Pictures:
    """Opens the images of a data set."""

    def __init__(self, bundle: blob_pb2.Bundle, store: BlobStore) -> None:
        """Args: the data set's files, and the store that holds them."""
        self._blobs = {file.path: file.blob for file in bundle.files}
        self._store = store

    def digest(self, item: Item) -> str:
        """Names the bytes of an item's image."""
        return self._blob(item).blake3

    def _blob(self, item: Item) -> blob_pb2.BlobRef:
        if item.image not in self._blobs:
            raise InvalidRequestError(
                f"the item {item.id!r} has the image {item.image!r}, which is not in the data set"
            )
        return self._blobs[item.image]

    def open(self, item: Item) -> Image:
        """Decodes an item's image: RGB, turned as its camera says, on white where it is transparent.

        Raises:
            DataFormatError: It does not decode; names the item.
            NotFoundError: The store lacks it.

        """
        from PIL import Image, ImageOps

        data = self._store.read(self._blob(item))
        try:
            with Image.open(io.BytesIO(data)) as opened:
                upright = ImageOps.exif_transpose(opened)
                if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                    clear = upright.convert("RGBA")
                    upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
                return upright.convert("RGB")
        except Exception as error:  # every decoder of PIL has errors of its own kind
            raise DataFormatError(
                f"the image of the item {item.id!r} does not decode: {error}; replace {item.image}"
            ) from error


class Scaler:
    """Brings images to the size that a model takes; bytes where the rest is simple arithmetic, which waits."""

    def __init__(self, first: Any) -> None:  # Any: the first module of a route
        self._first = first
        processor = getattr(first, "processor", None)
        self._processor = getattr(processor, "image_processor", processor)
        # Such a processor ends with (x * factor - mean) / std, which the device does as well.
        self.finishes = self._processor is not None and all(
            getattr(self._processor, name, None) for name in ("do_rescale", "do_normalize", "image_mean", "image_std")
        )

    @property
    def about(self) -> str:
        """States everything that the pixels depend on."""
        if self._processor is None:
            return f"plain {self._first.image_size}"
        return json.dumps(self._processor.to_dict(), sort_keys=True, default=str)

    def __call__(self, images: Sequence[Image]) -> Array:
        """Returns pixels `[b, c, h, w]`.

        Raises:
            InvalidRequestError: The images of this model have no common shape.

        """
        if self._processor is None:
            plain: Array = self._first.pixels(images)
            return plain
        how = {"do_rescale": False, "do_normalize": False} if self.finishes else {}
        made = [self._processor(image, return_tensors="np", **how)["pixel_values"][0] for image in images]
        if len({array.shape for array in made}) > 1:
            raise InvalidRequestError("this model scales images to different shapes, which cannot be one batch")
        stacked: Array = np.stack(made)
        return np.clip(np.rint(stacked), 0, 255).astype(np.uint8) if self.finishes else stacked.astype(np.float32)

    def finish(self, pixels: torch.Tensor) -> torch.Tensor:
        """Does the arithmetic that was left out, `[b, c, h, w]` in float32."""
        mean, std = (
            torch.tensor(getattr(self._processor, name), dtype=torch.float32, device=pixels.device).view(-1, 1, 1)
            for name in ("image_mean", "image_std")
        )
        finished: torch.Tensor = (pixels.float() * getattr(self._processor, "rescale_factor", 1 / 255) - mean) / std
        return finished
