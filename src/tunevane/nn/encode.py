"""Items to vectors: read once, sorted by length, in batches of about equal work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from tunevane.core.dataset import Item
from tunevane.nn.device import arithmetic
from tunevane.nn.feature_cache import FeatureCache
from tunevane.nn.inputs import Inputs, Modality, Pictures, Positions, prompt_of, route, text_features, tokenise
from tunevane.nn.packed import PackedBert, fits

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Encoder", "Floats", "prompt_of", "text_features", "tokenise"]

Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]

CPU_TOKENS = 2048
CUDA_TOKENS = 32768
CPU_PIXELS = 32 * 224 * 224
CUDA_PIXELS = 256 * 224 * 224


class Encoder:
    """Encodes texts and images with a model; what the model reads of a set is kept."""

    def __init__(self, model: SentenceTransformer, cache: FeatureCache | None = None) -> None:
        """Args: the model, and where token ids and scaled images are kept; None keeps the last few in memory."""
        self.model = model
        self.cache = FeatureCache() if cache is None else cache

    @property
    def _on_cuda(self) -> bool:
        return bool(self.model.device.type == "cuda")

    def stream(
        self,
        items: Sequence[str | Item],
        *,
        pictures: Pictures | None = None,
        tower: str = "",
        bf16: bool = False,
        batch_size: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[tuple[list[int], Floats]]:
        """Yields positions and their vectors, batch by batch, longest texts first.

        Args:
            items: What to encode; a string is an item with a text.
            pictures: Opens the items' images; None where they have none.
            tower: Which of a checkpoint's models encodes, `text` or `image`; empty takes whatever an item has. The
                vector of an item with both is then the mean of the two, each of length 1.
            bf16: Whether texts are encoded in bfloat16; images never are, because convolutions get slower by it.
            batch_size: Items per batch; None chooses by tokens or pixels.
            check: Called before each batch; raises to stop.

        Yields:
            Positions of `b` items, and their vectors `[b, d]` in float32.

        Raises:
            InvalidRequestError: An item has nothing that the model reads.

        """
        inputs = Inputs(self.model, items, pictures, self.cache, check)
        self.model.eval()
        forward = _Pass(self.model, inputs, bf16)
        for kind, positions in inputs.split(tower):
            for some in self._batches(inputs, kind, positions, batch_size):
                if check is not None:
                    check()
                if kind == "both":
                    yield some, _mean(forward(some, "text"), forward(some, "image"))
                else:
                    yield some, forward(some, kind)

    def _batches(
        self, inputs: Inputs, kind: Modality | Literal["both"], positions: Positions, batch_size: int | None
    ) -> Iterator[list[int]]:
        """Yields positions of items of similar length, longest first, within the budget of tokens or pixels."""
        lengths, tokens = np.ones(len(positions), np.int64), 0
        if kind != "image":
            lengths = np.maximum(inputs.tokens.lengths[inputs.rows(positions, "text")], 1)
            tokens = CUDA_TOKENS if self._on_cuda else CPU_TOKENS
        most = len(positions)
        if kind != "text":
            budget = CUDA_PIXELS if self._on_cuda else CPU_PIXELS
            most = max(budget // max(int(np.prod(inputs.pixels.shape[2:])), 1), 1)
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            size = batch_size
            if size is None:
                size = min(most, max(tokens // int(lengths[order[start]]), 1)) if tokens else most
            yield positions[order[start : start + size]].tolist()
            start += size

    def encode(
        self,
        items: Sequence[str | Item],
        *,
        pictures: Pictures | None = None,
        tower: str = "",
        bf16: bool = False,
        batch_size: int | None = None,
    ) -> Floats:
        """Returns vectors, `[n, d]` in float32, in order; d is unknown, and 0, where n is 0. See `stream`."""
        vectors: Floats = np.zeros((0, 0), np.float32)
        for positions, some in self.stream(items, pictures=pictures, tower=tower, bf16=bf16, batch_size=batch_size):
            if not len(vectors):
                vectors = np.empty((len(items), some.shape[1]), np.float32)
            vectors[positions] = some
        return vectors


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tells whether a device had too little memory; the CPU has no class of error for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class _Pass:
    """Forward passes over one set, with the weights as they are now."""

    def __init__(self, model: SentenceTransformer, inputs: Inputs, bf16: bool) -> None:
        self._model = model
        self._inputs = inputs
        self._bf16 = bf16

    def __call__(self, positions: list[int], modality: Modality) -> Floats:
        """Returns vectors `[b, d]`; where memory does not suffice, of half a batch at a time."""
        try:
            with torch.inference_mode():
                vectors: Floats = self._forward(positions, modality).float().cpu().numpy()
        except RuntimeError as error:
            if len(positions) == 1 or not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            half = len(positions) // 2
            return np.concatenate([self(positions[:half], modality), self(positions[half:], modality)])
        return vectors

    @cached_property
    def _packed(self) -> PackedBert | None:
        modules = route(self._model, "text")
        if not fits(self._model, modules):
            return None
        return PackedBert(modules, torch.bfloat16 if self._bf16 else torch.float32)

    def _forward(self, positions: list[int], modality: Modality) -> torch.Tensor:
        if modality == "text" and self._packed is not None:
            return self._packed(self._inputs.tokens, self._inputs.rows(positions, "text"))
        with arithmetic(self._model.device, bf16=self._bf16 and modality == "text"):
            output: torch.Tensor = self._model(self._inputs.features(positions, modality))["sentence_embedding"]
        return output


def _mean(first: Floats, second: Floats) -> Floats:
    """Returns the mean of two vectors of each row, both brought to length 1, `[b, d]`."""
    total: Floats = np.zeros_like(first)
    for each in (first, second):
        lengths = np.linalg.norm(each, axis=1, keepdims=True)
        total += (each / np.where(lengths > 0, lengths, 1) / 2).astype(np.float32)
    return total
