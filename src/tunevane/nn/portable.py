"""Models of people's own loops as the evaluator builds them: a sentence-transformers folder and a state dict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunevane.api.type.v1 import component_pb2
from tunevane.callback.components import component
from tunevane.errors import InvalidRequestError
from tunevane.nn.models import folder_bundle
from tunevane.storage.blobs import BlobStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Portable:
    """A model under training, seen as the sentence-transformers model that it stands for."""

    def __init__(self, model: torch.nn.Module, save: Callable[[Path], None], prefix: str = "") -> None:
        """Keeps the model; nothing is copied.

        Args:
            model: What is trained.
            save: Writes the sentence-transformers folder.
            prefix: What the folder's model has before the names of the tensors here.

        """
        self._model = model
        self._save = save
        self._prefix = prefix

    def component(self, store: BlobStore) -> component_pb2.Component:
        """States how to build the model; its files go into the store."""
        with tempfile.TemporaryDirectory(prefix="tunevane-model-") as scratch:
            self._save(Path(scratch))
            files = folder_bundle(Path(scratch), store)
        return component("sentence-transformers", {}, {"folder": files})

    def save(self, folder: Path) -> None:
        """Writes the model as a sentence-transformers folder."""
        self._save(folder)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the weights as they are now, under the names of the folder's model; nothing is copied."""
        return {self._prefix + name: tensor for name, tensor in self._model.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copies weights into the model, in place."""
        own = {name.removeprefix(self._prefix): tensor for name, tensor in tensors.items()}
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(own[name])


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Returns the model inside the wrappers of compilation and data parallelism."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = model.module
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


def portable(model: object, tokenizer: object = None, *, pooling: str = "mean", normalize: bool = True) -> Portable:
    """Finds out how a model is handed to the evaluator.

    Args:
        model: A `SentenceTransformer`, or a text model of transformers with its tokenizer.
        tokenizer: Of a transformers model.
        pooling: How token vectors become one, for transformers models: `mean`, `cls`, `max` or `lasttoken`.
        normalize: Whether vectors of transformers models get length 1.

    Raises:
        InvalidRequestError: It is neither, or the tokenizer is missing.

    """
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    inner = unwrapped(model) if isinstance(model, torch.nn.Module) else model
    if isinstance(inner, SentenceTransformer):
        return Portable(inner, lambda folder: inner.save(str(folder), create_model_card=False))
    if isinstance(inner, PreTrainedModel):
        if tokenizer is None:
            raise InvalidRequestError("a transformers model needs its tokenizer; pass tokenizer=, or processing_class=")
        return _of_transformers(inner, tokenizer, pooling, normalize)
    raise InvalidRequestError(
        f"a {type(inner).__name__} cannot be handed to the evaluator; give a SentenceTransformer, or a transformers"
        " model with its tokenizer"
    )


def _of_transformers(model: Any, tokenizer: Any, pooling: str, normalize: bool) -> Portable:
    """Any: models and tokenizers of transformers have no common types that say more."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers.utils import logging

    logging.disable_progress_bar()

    def assemble(folder: Path) -> SentenceTransformer:
        inner = folder / "transformer"
        model.save_pretrained(inner)
        tokenizer.save_pretrained(inner)
        first = Transformer(str(inner))
        modules = [first, Pooling(model.config.hidden_size, pooling), *([Normalize()] if normalize else [])]
        return SentenceTransformer(modules=modules, device="cpu")

    def save(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tunevane-model-") as scratch:
            assemble(Path(scratch)).save(str(folder), create_model_card=False)

    with tempfile.TemporaryDirectory(prefix="tunevane-model-") as scratch:
        theirs = assemble(Path(scratch)).state_dict()
    name = next(iter(model.state_dict()))
    longer = [each for each in theirs if each.endswith(name)]
    if len(theirs) != len(model.state_dict()) or not longer:
        raise InvalidRequestError(
            f"a {type(model).__name__} has tensors beyond its encoder; train the encoder alone, as AutoModel loads it"
        )
    return Portable(model, save, longer[0].removesuffix(name))
