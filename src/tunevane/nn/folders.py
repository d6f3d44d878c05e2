"""Model folders: which are accepted, how they are opened, and how a model becomes one."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import InvalidRequestError
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Module

MODULES = frozenset({"Transformer", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm", "Router"})
"""Classes of a sentence-transformers folder that are built, and that our encoder can run."""

PLAIN = "tunevane.nn.plain.PlainModule"
"""The one class of ours that a folder may name: it finds a registered torch module."""

_MODULE_ROOT = "sentence_transformers."
_SKIPPED = (".bin", ".onnx", ".h5", ".msgpack", ".ot", ".pt", ".pth", ".pkl")


def open_folder(folder: Path, max_seq_length: int | None = None) -> SentenceTransformer:
    """Opens a folder of sentence-transformers or transformers on the CPU; no code of the folder is run.

    Raises:
        InvalidRequestError: It is not accepted, or its files do not fit together.

    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    check_folder(folder)
    logging.disable_progress_bar()
    try:
        if PLAIN in _module_types(folder):
            model = SentenceTransformer(modules=list(_plain_modules(folder)), device="cpu")
        else:
            with _quiet():
                model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False)
    except InvalidRequestError:
        raise
    except Exception as error:  # transformers raises many kinds for files that do not fit together
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise InvalidRequestError(f"the model folder cannot be opened: {reason}") from error
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what transformers says about image processors: we never use torchvision, and PIL's are as good."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _plain_modules(folder: Path) -> Iterator[Module]:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    from tunevane.nn.plain import PlainModule

    known: dict[str, type[Module]] = {"PlainModule": PlainModule, "Dense": Dense, "Normalize": Normalize}
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        name = str(module["type"]).rpartition(".")[2]
        if name not in known:
            raise InvalidRequestError(f"a plain torch module is followed by Dense and Normalize only, not by {name}")
        yield known[name].load(str(folder), subfolder=str(module["path"]))


def _module_types(folder: Path) -> list[str]:
    """Lists the classes that a folder's files name; none for a folder of transformers."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return []
    try:
        modules = [str(module["type"]) for module in json.loads(listing.read_text(encoding="utf-8"))]
        for router in sorted(folder.rglob("router_config.json")):
            modules += [str(each) for each in json.loads(router.read_text(encoding="utf-8"))["types"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequestError(f"modules.json of the model folder cannot be read: {error}") from error
    return modules


def check_folder(folder: Path) -> None:
    """Refuses a folder that is no model, or whose modules are not on the list.

    Raises:
        InvalidRequestError: Says what is missing or not allowed.

    """
    if not (folder / "modules.json").is_file():
        _check_transformers(folder)
    for module in _module_types(folder):
        ours = module == PLAIN
        if not ours and (not module.startswith(_MODULE_ROOT) or module.rpartition(".")[2] not in MODULES):
            raise InvalidRequestError(
                f"the model folder asks for the module '{module}'; built are those of sentence-transformers named "
                + ", ".join(sorted(MODULES))
            )
    if not any(folder.rglob("*.safetensors")):
        raise InvalidRequestError(
            "the model folder has no .safetensors weights; save the model with safe serialization"
        )


def _check_transformers(folder: Path) -> None:
    """Refuses a folder without modules.json that is none of transformers either."""
    config = folder / "config.json"
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
    except (ValueError, AttributeError):
        kind = None
    if kind is None:
        raise InvalidRequestError(
            f"{folder.name} is no model folder: it has neither modules.json, as sentence-transformers has, nor a"
            " config.json with a model_type, as transformers has; save the model with model.save(...)"
        )
    inputs = ("tokenizer_config.json", "tokenizer.json", "preprocessor_config.json", "processor_config.json")
    if not any((folder / name).is_file() for name in inputs):
        raise InvalidRequestError(
            f"{folder.name} has neither a tokenizer nor an image processor beside its {kind} model;"
            " save these into the same folder"
        )


def folder_bundle(folder: Path, store: BlobStore) -> blob_pb2.Bundle:
    """Makes a bundle of a model folder that is checked first; formats other than safetensors stay behind."""
    check_folder(folder)
    files = {
        path.relative_to(folder).as_posix(): store.put_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in _SKIPPED and not path.name.startswith(".")
    }
    return bundles.make(files)


def is_hub_id(name: str) -> bool:
    """Tells whether a name has the form of a model on the hub: `owner/name`."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII) is not None


def from_hub(model_id: str) -> Path:
    """Returns the folder of a model of the hub, downloaded unless it was before; weights as safetensors only.

    Raises:
        InvalidRequestError: The hub cannot be reached, has no such model, or huggingface-hub is not installed.

    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InvalidRequestError(
            f"there is no folder {model_id}, and to look for it on the hub huggingface-hub is needed;"
            " run: pip install huggingface-hub"
        ) from None
    try:
        return Path(snapshot_download(model_id, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # the hub's client raises many kinds, those of its http library included
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InvalidRequestError(
            f"there is no folder {model_id}, and it does not come from the hub: {reason}"
        ) from error


@contextmanager
def unpacked(files: blob_pb2.Bundle, store: BlobStore) -> Iterator[Path]:
    """Lays the files of a bundle out in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tunevane-model-") as scratch:
        folder = Path(scratch)
        for file in files.files:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(store.path(file.blob), place)
        yield folder


def save(model: SentenceTransformer, folder: Path) -> None:
    """Writes a model as a folder that `SentenceTransformer(folder)` loads, adapters added into their layers."""
    from tunevane.nn.tuning import merged

    merged(model).save(str(folder), create_model_card=False)
