"""Vectors of the items of a set, with the weights as they are: what training differentiates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from tunevane.nn.inputs import Inputs, Modality

_KINDS = ("text", "image", "both")


class Reader:
    """Computes vectors of items of one set."""

    def __init__(self, inputs: Inputs) -> None:
        """Looks what each item has.

        Raises:
            InvalidRequestError: An item has nothing that the model reads.

        """
        self._inputs = inputs
        self._kinds = np.zeros(len(inputs.items), np.int8)
        for kind, positions in inputs.split():
            self._kinds[positions] = _KINDS.index(kind)

    def __call__(self, positions: Sequence[int]) -> torch.Tensor:
        """Returns vectors `[b, d]`; that of an item with text and image is the mean of both, each of length 1."""
        kinds = self._kinds[list(positions)]
        found = sorted(set(kinds.tolist()))
        if len(found) == 1:
            return self._of(positions, found[0])
        places = [np.flatnonzero(kinds == kind) for kind in found]
        parts = [
            self._of([positions[int(place)] for place in some], kind) for some, kind in zip(places, found, strict=True)
        ]
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(places)))]

    def _of(self, positions: Sequence[int], kind: int) -> torch.Tensor:
        if _KINDS[kind] == "both":
            text, image = (functional.normalize(self._forward(positions, each), dim=1) for each in ("text", "image"))
            return (text + image) / 2
        return self._forward(positions, "text" if _KINDS[kind] == "text" else "image")

    def _forward(self, positions: Sequence[int], modality: Modality) -> torch.Tensor:
        model = self._inputs.model
        features = self._inputs.features(positions, modality)
        # Convolutions get slower by bfloat16 on CPUs.
        with torch.autocast(
            model.device.type, enabled=modality == "text" and torch.is_autocast_enabled(model.device.type)
        ):
            vectors: torch.Tensor = model(features)["sentence_embedding"]
        return vectors
