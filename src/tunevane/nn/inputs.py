"""What models read of items: token ids of texts, pixels of images; made once per set and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3

from tunevane.core.dataset import Item
from tunevane.errors import InvalidRequestError
from tunevane.nn.feature_cache import Array, Arrays, FeatureCache, OpenArray
from tunevane.nn.models import TOWERS
from tunevane.nn.pictures import Pictures, Scaler
from tunevane.nn.tokens import Tokens, pack

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Inputs", "Modality", "Pictures", "image_features", "reads", "route", "text_features", "tokenise"]

Modality = Literal["text", "image"]
Positions = npt.NDArray[np.int64]

_TEXTS_PER_CALL = 1024
_IMAGES_PER_CALL = 64


def reads(model: SentenceTransformer) -> frozenset[Modality]:
    """Tells what a model reads."""
    return frozenset(each for each in ("text", "image") if each in model.modalities)


def route(model: SentenceTransformer, modality: Modality) -> list[Any]:  # Any: modules have no common type
    """Lists the modules that inputs of a kind go through."""
    from sentence_transformers.sentence_transformer.modules import Router

    first, *rest = model.children()
    if not isinstance(first, Router):
        return [first, *rest]
    routes: Any = first.sub_modules
    for name in (first.route_mappings.get((None, modality)), modality, first.default_route):
        if name is not None and name in routes:
            return [*routes[name], *rest]
    raise InvalidRequestError(f"the model has no way for {modality}s; it has those named {', '.join(routes)}")


def prompt_of(model: SentenceTransformer) -> str:
    """Returns what the model puts in front of every text, as its own `encode` does; mostly nothing."""
    if model.default_prompt_name is None:
        return ""
    return str(model.prompts.get(model.default_prompt_name, None) or "")


def _longest(first: Any) -> int | None:
    length: int | None = first.max_seq_length
    return length


def tokenise(model: SentenceTransformer, texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each text with the model's prompt, cut to the model's longest."""
    if not texts:
        return []
    prompt, first = prompt_of(model), route(model, "text")[0]
    rows: list[list[int]] = first.tokenizer(
        [prompt + text for text in texts],
        truncation=True,
        max_length=_longest(first),
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return rows


def text_features(model: SentenceTransformer, ids: Sequence[Sequence[int]]) -> dict[str, object]:
    """Pads token ids into what a model's first module takes: `input_ids` and `attention_mask`, both [b, t]."""
    first = route(model, "text")[0]
    tokenizer = first.tokenizer
    longest = max(len(row) for row in ids)
    tokens = torch.full((len(ids), longest), tokenizer.pad_token_id or 0, dtype=torch.long)
    mask = torch.zeros((len(ids), longest), dtype=torch.long)
    for position, row in enumerate(ids):
        where = slice(longest - len(row), None) if tokenizer.padding_side == "left" else slice(0, len(row))
        tokens[position, where] = torch.as_tensor(np.asarray(row, np.int64))
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
        alone = tokenizer(prompt, truncation=True, max_length=_longest(first))["input_ids"]
        features["prompt_length"] = len(alone) - (alone[-1] in tokenizer.all_special_ids)
    return features


def image_features(model: SentenceTransformer, pixels: Array) -> dict[str, object]:
    """Makes what a model's first module takes of pixels `[b, c, h, w]` as `Scaler` gives them."""
    first = route(model, "image")[0]
    tensor = torch.from_numpy(np.array(pixels)).to(model.device)
    scaler = Scaler(first)
    if scaler.finishes:
        tensor = scaler.finish(tensor)
    if tensor.is_floating_point() and tensor.dim() == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return {"pixel_values": tensor, "modality": "image"}


class Inputs:
    """The items of a set as one model reads them."""

    def __init__(
        self,
        model: SentenceTransformer,
        items: Sequence[str | Item],
        pictures: Pictures | None = None,
        cache: FeatureCache | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Looks which items have a text and which an image, and at nothing else yet.

        Args:
            model: Which model.
            items: The set; a string is an item with that text.
            pictures: Opens its images; None where it has none.
            cache: Keeps what is made; None keeps it in memory.
            check: Called while much is being made; raises to stop.

        """
        self.model = model
        self.items = items
        self._pictures = pictures
        self._cache = FeatureCache() if cache is None else cache
        self._check: Callable[[], None] = (lambda: None) if check is None else check
        self._reads = reads(model)
        count = len(items)
        self._has: dict[Modality, npt.NDArray[np.bool_]] = {
            "text": np.fromiter((_text(item) is not None for item in items), np.bool_, count),
            "image": np.fromiter((_image(item) is not None for item in items), np.bool_, count),
        }

    def split(self, tower: str = "") -> Iterator[tuple[Modality | Literal["both"], Positions]]:
        """Yields what is read of items, and which these are: by the tower that is named, else all that they have.

        Raises:
            InvalidRequestError: An item has nothing that the model reads, or the model has no such tower.

        """
        wanted = self._reads
        if tower:
            if tower not in TOWERS or TOWERS[tower] not in self._reads:
                raise InvalidRequestError(
                    f"the checkpoint holds no model '{tower}'; it reads {' and '.join(sorted(self._reads))}"
                )
            wanted = frozenset({TOWERS[tower]})
        texts, images = (self._has[each] & (each in wanted) for each in ("text", "image"))
        neither = np.flatnonzero(~(texts | images))
        if len(neither):
            what = " or ".join(sorted(wanted, reverse=True))
            raise InvalidRequestError(f"{self._named(int(neither[0]))} has no {what}, which this model needs")
        kinds: list[tuple[Modality | Literal["both"], Any]] = [
            ("text", texts & ~images),
            ("image", images & ~texts),
            ("both", texts & images),
        ]
        for kind, mask in kinds:
            if mask.any():
                yield kind, np.flatnonzero(mask)

    def _named(self, position: int) -> str:
        item = self.items[position]
        return f"the item {item.id!r}" if isinstance(item, Item) else f"text {position + 1}"

    @cached_property
    def _rows(self) -> dict[Modality, Positions]:
        """Maps positions of items to rows of the token ids and the pixels, `[n]` each."""
        return {kind: np.cumsum(mask) - 1 for kind, mask in self._has.items()}

    def rows(self, positions: Iterable[int], modality: Modality) -> list[int]:
        """Maps positions of items that have a text, or an image, to rows of `tokens` or `pixels`."""
        return [int(row) for row in self._rows[modality][list(positions)]]

    @cached_property
    def tokens(self) -> Tokens:
        """Token ids of all texts, in order."""
        texts = [text for item in self.items if (text := _text(item)) is not None]
        first = route(self.model, "text")[0]
        tokenizer = first.tokenizer
        key = _digest(chain((_fingerprint(tokenizer), prompt_of(self.model), str(_longest(first))), texts))

        def blocks() -> Iterator[list[list[int]]]:
            for start in range(0, len(texts), _TEXTS_PER_CALL):
                self._check()
                yield tokenise(self.model, texts[start : start + _TEXTS_PER_CALL])

        def make(open_array: OpenArray) -> None:
            packed = pack(blocks(), len(tokenizer))
            open_array("offsets", packed.offsets.shape, packed.offsets.dtype)[:] = packed.offsets
            open_array("ids", packed.ids.shape, packed.ids.dtype)[:] = packed.ids

        found: Arrays = self._cache.get(f"tokens-{key}", make)
        return Tokens(found["offsets"], found["ids"])

    @cached_property
    def pixels(self) -> Array:
        """Pixels of all images, `[n, c, h, w]`, in order.

        Raises:
            DataFormatError: An image does not decode; names the item.
            InvalidRequestError: The images of this model have no common shape.

        """
        items = [item for item in self.items if isinstance(item, Item) and item.image is not None]
        if self._pictures is None:
            raise InvalidRequestError("the images of this data set did not come along")
        pictures, scaler = self._pictures, Scaler(route(self.model, "image")[0])
        key = _digest(chain((scaler.about,), map(pictures.digest, items)))

        def make(open_array: OpenArray) -> None:
            filled: Array | None = None
            for start in range(0, len(items), _IMAGES_PER_CALL):
                self._check()
                some = scaler([pictures.open(item) for item in items[start : start + _IMAGES_PER_CALL]])
                if filled is None:
                    filled = open_array("pixels", (len(items), *some.shape[1:]), some.dtype)
                if filled.shape[1:] != some.shape[1:]:
                    raise InvalidRequestError("this model scales images to different shapes, which cannot be one batch")
                filled[start : start + len(some)] = some

        return self._cache.get(f"pixels-{key}", make)["pixels"]

    def features(self, positions: Sequence[int], modality: Modality) -> dict[str, object]:
        """Makes what the model takes of some items that all have a text, or all an image."""
        rows = self.rows(positions, modality)
        if modality == "text":
            return text_features(self.model, [self.tokens.row(row).tolist() for row in rows])
        return image_features(self.model, self.pixels[rows])


def _text(item: str | Item) -> str | None:
    return item if isinstance(item, str) else item.text


def _image(item: str | Item) -> str | None:
    return None if isinstance(item, str) else item.image


def _digest(parts: Iterable[str]) -> str:
    hasher = blake3()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()[:40]


def _fingerprint(tokenizer: Any) -> str:  # Any: tokenizers have no common type
    """Names a tokenizer by everything that its ids depend on, but for the length at which it cuts."""
    known: str | None = getattr(tokenizer, "_tunevane_fingerprint", None)
    if known is None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None and hasattr(backend, "to_str"):
            about = json.loads(backend.to_str())
            # These two change with every call.
            about.pop("truncation", None)
            about.pop("padding", None)
        else:
            about = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), str(tokenizer.init_kwargs)]
        sides = [str(getattr(tokenizer, side, "")) for side in ("truncation_side", "padding_side")]
        known = _digest([json.dumps(about, sort_keys=True), *sides])
        tokenizer._tunevane_fingerprint = known
    return known
