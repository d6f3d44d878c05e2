"""Texts to vectors: tokenised once, sorted by token count, in batches of about equal work."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from blake3 import blake3

from tunevane.nn.device import arithmetic

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]

CPU_TOKENS = 2048
CUDA_TOKENS = 32768
CACHED_SETS = 8


def prompt_of(model: SentenceTransformer) -> str:
    """Returns what the model puts in front of every text, as its own `encode` does; mostly nothing."""
    if model.default_prompt_name is None:
        return ""
    return str(model.prompts.get(model.default_prompt_name, None) or "")


def text_features(model: SentenceTransformer, ids: Sequence[Sequence[int]]) -> dict[str, object]:
    """Pads token ids into what a model's first module takes: `input_ids` and `attention_mask`, both [b, t]."""
    tokenizer = model.tokenizer
    longest = max(len(row) for row in ids)
    tokens = torch.full((len(ids), longest), tokenizer.pad_token_id or 0, dtype=torch.long)
    mask = torch.zeros((len(ids), longest), dtype=torch.long)
    for position, row in enumerate(ids):
        where = slice(longest - len(row), None) if tokenizer.padding_side == "left" else slice(0, len(row))
        tokens[position, where] = torch.tensor(row, dtype=torch.long)
        mask[position, where] = 1
    device = model.device
    features: dict[str, object] = {
        "input_ids": tokens.to(device),
        "attention_mask": mask.to(device),
        "modality": "text",
    }
    prompt = prompt_of(model)
    if prompt:
        # Some models leave the prompt's tokens out of the pooling.
        alone = tokenizer(prompt, truncation=True, max_length=model.max_seq_length)["input_ids"]
        features["prompt_length"] = len(alone) - (alone[-1] in tokenizer.all_special_ids)
    return features


def tokenise(model: SentenceTransformer, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each text with the model's prompt, cut to the model's longest."""
    if not texts:
        return []
    prompt = prompt_of(model)
    rows: list[list[int]] = model.tokenizer(
        [prompt + text for text in texts],
        truncation=True,
        max_length=model.max_seq_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return rows


class Encoder:
    """Encodes texts with a model; token ids of the last few sets are kept."""

    def __init__(self, model: SentenceTransformer, told: Callable[[bool], None] | None = None) -> None:
        """Args: the model, and who is told at each look-up of token ids whether they were kept."""
        self.model = model
        self._told = told
        self._cache: OrderedDict[str, list[list[int]]] = OrderedDict()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns token ids, from memory where the same set was tokenised before."""
        hasher = blake3()
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8, "little") + data)
        key = hasher.hexdigest()
        if self._told is not None:
            self._told(key in self._cache)
        if key not in self._cache:
            self._cache[key] = tokenise(self.model, texts)
            while len(self._cache) > CACHED_SETS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def batches(self, ids: Sequence[Sequence[int]], batch_size: int | None) -> Iterator[list[int]]:
        """Yields positions of texts of similar length, longest first, within the token budget."""
        budget = CUDA_TOKENS if self.model.device.type == "cuda" else CPU_TOKENS
        order = sorted(range(len(ids)), key=lambda position: (-len(ids[position]), position))
        start = 0
        while start < len(order):
            longest = max(len(ids[order[start]]), 1)
            size = batch_size if batch_size is not None else max(budget // longest, 1)
            yield order[start : start + size]
            start += size

    def stream(
        self,
        texts: Sequence[str],
        *,
        bf16: bool = False,
        batch_size: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[tuple[list[int], Floats]]:
        """Yields positions and their vectors, batch by batch.

        Args:
            texts: What to encode.
            bf16: Whether the forward pass runs in bfloat16.
            batch_size: Texts per batch; None chooses by token budget.
            check: Called before each batch; raises to stop.

        Yields:
            Positions of `b` texts, and their vectors `[b, d]` in float32.

        """
        ids = self.token_ids(texts)
        self.model.eval()
        for positions in self.batches(ids, batch_size):
            if check is not None:
                check()
            yield positions, self._forward([ids[position] for position in positions], bf16)

    def _forward(self, ids: list[list[int]], bf16: bool) -> Floats:
        try:
            with torch.inference_mode(), arithmetic(self.model.device, bf16=bf16):
                output = self.model(text_features(self.model, ids))["sentence_embedding"]
            vectors: Floats = output.float().cpu().numpy()
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(ids) // 2
            return np.concatenate([self._forward(ids[:half], bf16), self._forward(ids[half:], bf16)])
        return vectors

    def encode(self, texts: Sequence[str], *, bf16: bool = False, batch_size: int | None = None) -> Floats:
        """Returns the vectors of texts, `[n, d]` in float32, in order; d is unknown, and 0, where n is 0."""
        vectors: Floats = np.zeros((0, 0), np.float32)
        for positions, some in self.stream(texts, bf16=bf16, batch_size=batch_size):
            if not len(vectors):
                vectors = np.empty((len(texts), some.shape[1]), np.float32)
            vectors[positions] = some
        return vectors
