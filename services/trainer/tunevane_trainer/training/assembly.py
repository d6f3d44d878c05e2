"""Puts together what an epoch needs, from a run's specification: model, loss, optimizer and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from tunevane import plugins
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.callback.components import options_of
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles, specs
from tunevane.core.dataset import Dataset
from tunevane.errors import InvalidRequestError
from tunevane.nn import device, models
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer import history
from tunevane_trainer.training import batches
from tunevane_trainer.training.loop import Trainer
from tunevane_trainer.training.losses import DEFAULT_FOR, LossInfo
from tunevane_trainer.training.optimizers import OPTIMIZERS, AdamW
from tunevane_trainer.training.reporter import Reporter

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def needed(spec: run_pb2.RunSpec) -> list[blob_pb2.BlobRef]:
    """Lists the files that a specification names."""
    return [ref for bundle in history.spec_bundles(spec) for ref in bundles.refs(bundle)]


def trainer(
    spec: run_pb2.RunSpec, store: BlobStore, reporter: Reporter, schedule: Schedule, stopping: Callable[[], bool]
) -> Trainer:
    """Builds the model with its pre-trained weights on its device, and everything around it.

    Raises:
        InvalidRequestError: The loss cannot learn from the training set.

    """
    model = models.build(spec.model, store).to(device.choose(spec.device))
    train_data = datasets.load(spec.train_data, store)
    torch.manual_seed(spec.seed)
    loss = _loss(spec, train_data, model)
    settings = AdamW()
    if spec.HasField("optimizer"):
        settings = specs.build(OPTIMIZERS[spec.optimizer.name], options_of(spec.optimizer), "optimizer")
    return Trainer(
        model=model,
        loss=loss,
        optimizer=settings.build(model),
        settings=settings,
        train_data=train_data,
        eval_data=datasets.load(spec.eval_data, store) if spec.HasField("eval_data") else None,
        epochs=spec.epochs,
        batch_size=spec.batch_size or batches.DEFAULT_BATCH_SIZE,
        seed=spec.seed,
        bf16=spec.precision == evaluation_pb2.PRECISION_BF16,
        reporter=reporter,
        schedule=schedule,
        stopping=stopping,
    )


def _loss(spec: run_pb2.RunSpec, data: Dataset, model: SentenceTransformer) -> object:
    name = spec.loss.name if spec.HasField("loss") else DEFAULT_FOR[data.kind]
    info = plugins.load("losses", name)
    assert isinstance(info, LossInfo)
    if data.kind not in info.kinds:
        raise InvalidRequestError(
            f"the loss '{name}' learns from {' or '.join(info.kinds)}, and train_data holds {data.kind};"
            f" use '{DEFAULT_FOR[data.kind]}'"
        )
    if data.kind == "items" and any(label is None for label in data.labels):
        raise InvalidRequestError("train_data has items without a label; give labels, or pairs")
    return info.build(specs.build(info.options, options_of(spec.loss), "loss"), model)
