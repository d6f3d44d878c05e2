"""Our encoder gives what sentence-transformers gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from support.models import minilm, names, tiny
from tunevane.nn import models
from tunevane.nn.encode import Encoder
from tunevane.nn.inputs import Inputs
from tunevane.nn.packed import PackedBert
from tunevane.nn.tokens import Tokens

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LONGER_THAN_THE_MODEL_READS = " ".join(names("en", 300))
TEXTS = ("", "  spaces around  ", " ".join(names("en", 12)), "Grüße 🌡️ 你好", *names("de", 20), *names("en", 10))


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return models.build(minilm())


def test_vectors_equal_those_of_sentence_transformers(model: SentenceTransformer) -> None:
    texts = [*TEXTS, LONGER_THAN_THE_MODEL_READS]
    theirs = model.encode(texts, batch_size=8, convert_to_numpy=True, show_progress_bar=False)
    ours = Encoder(model).encode(texts)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_prompt_of_the_model_is_put_in_front(tmp_path: Path, pooled: bool) -> None:
    model = tiny(tmp_path)
    model.prompts = {"ask": "find what is meant: "}
    model.default_prompt_name = "ask"
    pooling: Any = model[1]  # torch types a submodule as module or tensor
    pooling.include_prompt = pooled
    theirs = model.encode(list(TEXTS), convert_to_numpy=True, show_progress_bar=False)
    ours = Encoder(model).encode(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    model.default_prompt_name = None
    assert not np.allclose(Encoder(model).encode(TEXTS), ours, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_changes_nothing(model: SentenceTransformer, batch_size: int) -> None:
    some = TEXTS[:12]
    np.testing.assert_allclose(
        Encoder(model).encode(some, batch_size=batch_size), Encoder(model).encode(some), atol=1e-5
    )


def test_bfloat16_is_close_and_not_equal(model: SentenceTransformer) -> None:
    encoder = Encoder(model)
    exact, rough = encoder.encode(TEXTS), encoder.encode(TEXTS, bf16=True)
    cosines = (exact * rough).sum(1) / (np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1))
    assert cosines.min() > 0.99
    assert not np.array_equal(exact, rough)


def test_nothing_to_encode_is_an_empty_array(model: SentenceTransformer) -> None:
    assert Encoder(model).encode([]).shape == (0, 0)


def test_batches_hold_every_text_once_within_the_token_budget(model: SentenceTransformer) -> None:
    texts = [*names("de", 1000), *names("en", 1000)]
    inputs = Inputs(model, texts)
    lengths = inputs.tokens.lengths
    batches = list(Encoder(model)._batches(inputs, "text", np.arange(len(texts)), None))
    assert sorted(position for batch in batches for position in batch) == list(range(len(texts)))
    padded = [len(batch) * max(lengths[position] for position in batch) for batch in batches]
    assert max(padded) <= 2048
    assert sum(padded) <= 1.2 * lengths.sum()


def test_the_check_before_each_batch_can_stop_it(model: SentenceTransformer) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    def read() -> Iterator[int]:
        for positions, _ in Encoder(model).stream(TEXTS, batch_size=4, check=check):
            yield len(positions)

    with pytest.raises(InterruptedError):
        list(read())
    assert len(calls) == 3


def test_out_of_memory_halves_the_batch(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(model)
    expected = encoder.encode(TEXTS[:12])
    forward, sizes = PackedBert.__call__, []

    def limited(self: PackedBert, tokens: Tokens, positions: list[int]) -> torch.Tensor:
        sizes.append(len(positions))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("no room for so many")
        return forward(self, tokens, positions)

    monkeypatch.setattr(PackedBert, "__call__", limited)
    np.testing.assert_allclose(encoder.encode(TEXTS[:12], batch_size=12), expected, atol=1e-5)
    assert sizes[0] == 12
    assert min(sizes) <= 3


def test_other_errors_are_not_taken_for_it(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: PackedBert, *given: object) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(PackedBert, "__call__", broken)
    with pytest.raises(RuntimeError, match="something else"):
        Encoder(model).encode(TEXTS)
