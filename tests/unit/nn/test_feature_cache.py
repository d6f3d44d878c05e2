"""Nothing is tokenised or decoded twice, not even after a restart; the folder keeps within its size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.vision import drawn, stored
from tunevane.callback.components import component
from tunevane.nn import inputs, models
from tunevane.nn.encode import Encoder
from tunevane.nn.feature_cache import FeatureCache
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = ["a text", "another, somewhat longer text", "one"]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return models.build(component("minilm", {"layers": 1}))


@pytest.fixture
def tokenised(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the texts of every call of the tokenizer."""
    calls: list[int] = []
    kind: Any = type(model.tokenizer)
    call = kind.__call__

    def counting(self: object, texts: Any, **more: object) -> object:
        calls.append(len(texts))
        return call(self, texts, **more)

    monkeypatch.setattr(kind, "__call__", counting)
    return calls


def test_a_set_is_tokenised_once_also_after_a_restart(
    model: SentenceTransformer, tokenised: list[int], tmp_path: Path
) -> None:
    first = Encoder(model, FeatureCache(tmp_path))
    expected = first.encode(TEXTS)
    assert tokenised == [3]
    np.testing.assert_array_equal(first.encode(list(TEXTS)), expected)
    np.testing.assert_array_equal(first.encode(TEXTS, bf16=False), expected)
    restarted = Encoder(models.build(component("minilm", {"layers": 1})), FeatureCache(tmp_path))
    np.testing.assert_array_equal(restarted.encode(TEXTS), expected)
    assert tokenised == [3]
    # About two bytes a token, and eight for where each text begins.
    (ids,) = tmp_path.glob("tokens-*/ids.npy")
    assert np.load(ids).dtype == np.uint16


@pytest.mark.parametrize("change", ["max_seq_length", "texts", "boundaries", "prompt"])
def test_whatever_changes_the_tokens_is_told_apart(tokenised: list[int], tmp_path: Path, change: str) -> None:
    model = models.build(component("minilm", {"layers": 1}))
    encoder = Encoder(model, FeatureCache(tmp_path))
    encoder.encode(["a b", "c"])
    texts = {"texts": ["a b", "d"], "boundaries": ["a", "b c"]}.get(change, ["a b", "c"])
    if change == "max_seq_length":
        model.max_seq_length = 16
    if change == "prompt":
        model.prompts = {"ask": "find: "}
        model.default_prompt_name = "ask"
    encoder.encode(texts)
    assert tokenised[:2] == [2, 2]


def test_images_are_decoded_once_also_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    opened = inputs.Pictures.open

    def counting(self: inputs.Pictures, item: Any) -> Any:
        decoded.append(item.id)
        return opened(self, item)

    monkeypatch.setattr(inputs.Pictures, "open", counting)
    store = BlobStore(tmp_path / "blobs")
    wanted = component("efficientnet-lite0", {"image_size": 32})
    data, _, pictures = stored([{"id": str(n), "image": drawn(n)} for n in range(3)], store)
    expected = Encoder(models.build(wanted), FeatureCache(tmp_path / "features")).encode(data.items, pictures=pictures)
    assert decoded == ["0", "1", "2"]
    restarted = Encoder(models.build(wanted), FeatureCache(tmp_path / "features"))
    np.testing.assert_array_equal(restarted.encode(data.items, pictures=pictures), expected)
    assert decoded == ["0", "1", "2"]
    (pixels,) = (tmp_path / "features").glob("pixels-*/pixels.npy")
    assert np.load(pixels).dtype == np.uint8
    larger = Encoder(
        models.build(component("efficientnet-lite0", {"image_size": 64})), FeatureCache(tmp_path / "features")
    )
    larger.encode(data.items, pictures=pictures)
    assert len(decoded) == 6


def filled(size: int) -> Callable[[Callable[..., Any]], None]:
    def make(open_array: Callable[..., Any]) -> None:
        open_array("values", (size,), np.uint8)[:] = size % 251

    return make


def failing(open_array: Callable[..., Any]) -> None:
    open_array("values", (3,), np.uint8)[:] = 1
    raise InterruptedError


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=2500)
    for age, key in ((30, "a"), (20, "b")):
        cache.get(key, filled(1000))
        os.utime(tmp_path / key, (1e9 - age, 1e9 - age))
    kept = cache.get("a", filled(1))["values"]
    os.utime(tmp_path / "a", (1e9, 1e9))
    cache.get("c", filled(1000))
    assert {each.name for each in tmp_path.iterdir()} == {"a", "c"}
    # What was removed while it is in use can still be read.
    os.utime(tmp_path / "a", (1, 1))
    cache.get("d", filled(1500))
    assert not (tmp_path / "a").exists()
    assert kept.sum() == 1000 * (1000 % 251)


def test_what_is_larger_than_the_limit_is_used_and_not_kept(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=500)
    assert len(cache.get("a", filled(1000))["values"]) == 1000
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(np, "save", full)
    cache = FeatureCache(tmp_path)
    assert cache.get("a", filled(1000))["values"].sum() == 1000 * (1000 % 251)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    with pytest.raises(InterruptedError):
        cache.get("a", failing)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new-left").mkdir()
    os.utime(tmp_path / "new-left", (1, 1))
    FeatureCache(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_arrays_are_made_again(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get("a", filled(1000))
    (tmp_path / "a" / "values.npy").write_bytes(b"\x93NUMPY torn")
    assert FeatureCache(tmp_path).get("a", filled(7))["values"].shape == (7,)


def test_empty_arrays_are_kept_too(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get("a", filled(0))
    assert FeatureCache(tmp_path).get("a", failing)["values"].shape == (0,)


def test_look_ups_are_told(tmp_path: Path) -> None:
    heard: list[bool] = []
    cache = FeatureCache(tmp_path, told=heard.append)
    for _ in range(2):
        cache.get("a", filled(3))
    assert heard == [False, True]
