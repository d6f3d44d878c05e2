"""The models that runs can name; each becomes a sentence-transformers model.

A model is registered under the entry-point group `tunevane.models` as a `ModelInfo`. Listing models needs no
torch; building one does. Nothing that a client sends is ever imported: the module classes of a folder are held
against a list, and remote code does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunevane import plugins
from tunevane.api.type.v1 import blob_pb2, component_pb2
from tunevane.callback.components import options_of
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem
from tunevane.nn.folders import folder_bundle
from tunevane.nn.tuning import TuningOptions, tune
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["ModelInfo", "build", "check", "find", "folder_bundle", "plain_model", "with_folders"]

TOWERS: dict[str, Literal["text", "image"]] = {
    "text": "text",
    "image": "image",
    "clip-text": "text",
    "clip-vision": "image",
}
"""What a plan may call the two models that a checkpoint holds, and what each of them reads."""

Folders = Mapping[str, blob_pb2.Bundle]
"""Files that came along with a component, by attachment."""


@dataclass(frozen=True)
class ModelInfo:
    """A registered model."""

    name: str
    """Registered name."""

    summary: str
    """One sentence."""

    task: str
    """What it compares: `text-to-text`, `image-to-image`, `text-to-image`, or several of them by comma."""

    options: type
    """Dataclass of its options; `TuningOptions` or derived from it."""

    build: Callable[[object, Folders, BlobStore | None], SentenceTransformer]
    """Makes the model of its options, the files that came along, and the store that holds them."""

    needs_files: bool = False
    """Whether a folder of files has to come along, as attachment `folder`."""

    dim: int | None = None
    """Dimensions of its vectors without a head; None where they are known only once it is built."""

    makes_head: bool = False
    """Whether `build` itself heeds `output_dim`."""

    network: Callable[[object], torch.nn.Module] | None = None
    """Makes the bare torch module of the options, for models that are one."""

    image_size: int = 0
    """Width and height in pixels that a bare torch module takes; 0 for all others."""


def plain_model(
    name: str,
    summary: str,
    options: type,
    network: Callable[[object], torch.nn.Module],
    image_size: int,
    *,
    dim: int | None = None,
) -> ModelInfo:
    """Describes a plain torch module as a model, to be registered under `tunevane.models`.

    Args:
        name: The name under which it is registered.
        summary: One sentence.
        options: Dataclass of its options; `TuningOptions` or derived from it.
        network: Makes the module, which takes pixels `[b, 3, s, s]` in [-1, 1] and returns vectors `[b, d]`.
        image_size: s.
        dim: d, where it is known.

    """

    def build(options: object, folders: Folders, store: BlobStore | None) -> SentenceTransformer:
        import torch
        from sentence_transformers import SentenceTransformer

        from tunevane.nn.plain import PlainModule

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # so that trainer and evaluator begin with the same weights
            made = network(options)
        module = PlainModule(name, specs.options_of(options), made, image_size)
        return SentenceTransformer(modules=[module], device="cpu")

    return ModelInfo(name, summary, "image-to-image", options, build, dim=dim, network=network, image_size=image_size)


def find(name: str) -> ModelInfo:
    """Returns a registered model.

    Raises:
        NotFoundError: Nothing of that name is registered.

    """
    info = plugins.load("models", name)
    assert isinstance(info, ModelInfo)
    return info


def check(component: component_pb2.Component, field: str) -> object:
    """Returns the typed options of a model component.

    Raises:
        InvalidRequestError: Lists an unknown name, unknown options, or missing files.

    """
    known = plugins.names("models")
    if component.name not in known:
        raise InvalidRequestError([Problem(f"{field}.name", specs.unknown("model", component.name, known))])
    info = find(component.name)
    options: object = specs.build(info.options, options_of(component), field)
    needed = {"folder": component.name} if info.needs_files else {}
    for tower in ("text", "image"):
        inner = getattr(options, tower, None)
        if isinstance(inner, str) and inner in known and find(inner).needs_files:
            needed[tower] = inner
    missing = [
        Problem(f"{field}.{name}", f"'{inner}' needs the files of a folder")
        for name, inner in needed.items()
        if name not in component.attachments
    ]
    if missing:
        raise InvalidRequestError(missing)
    return options


def with_folders(
    options: Mapping[str, object], store: BlobStore
) -> tuple[dict[str, object], dict[str, blob_pb2.Bundle]]:
    """Replaces folders that are given as towers by the name of the model that opens them, and their files.

    Args:
        options: Options of a model as a person gives them: a tower is a registered name or the path of a folder.
        store: Where the files go.

    Returns:
        The options, and the files by tower.

    Raises:
        InvalidRequestError: A folder is not accepted.

    """
    plain, files = dict(options), {}
    for tower in ("text", "image"):
        given = options.get(tower)
        if isinstance(given, str | Path) and Path(given).expanduser().is_dir():
            plain[tower] = "sentence-transformers"
            files[tower] = folder_bundle(Path(given).expanduser(), store)
    return plain, files


def build(component: component_pb2.Component, store: BlobStore | None = None) -> SentenceTransformer:
    """Builds a model with its pre-trained weights, on the CPU; the same weights each time.

    Args:
        component: Registered name, options, and files.
        store: Holds the files; None where the model needs none.

    Raises:
        InvalidRequestError: Options or files do not fit.

    """
    options = check(component, "model")
    info = find(component.name)
    model = info.build(options, component.attachments, store)
    if isinstance(options, TuningOptions):
        tune(model, replace(options, output_dim=None) if info.makes_head else options)
    return model
