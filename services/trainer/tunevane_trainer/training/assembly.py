"""Puts together what an epoch needs, from a run's specification: model, loss, optimizer and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from google.protobuf import json_format

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.callback.components import options_of
from tunevane.callback.schedule import Schedule
from tunevane.core import bundles, specs
from tunevane.core.dataset import Dataset
from tunevane.errors import InvalidRequestError
from tunevane.nn import device, models
from tunevane.nn.inputs import Inputs, Pictures
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer import history
from tunevane_trainer.training import batches, distributed, losses
from tunevane_trainer.training.checkpointing import recompute_activations
from tunevane_trainer.training.gradients import Gradients
from tunevane_trainer.training.loop import Reports, Trainer
from tunevane_trainer.training.losses import LossInfo, Space
from tunevane_trainer.training.optimizers import OPTIMIZERS, AdamW
from tunevane_trainer.training.options import TrainingOptions
from tunevane_trainer.training.reporter import log_event
from tunevane_trainer.training.vectors import Reader

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def needed(spec: run_pb2.RunSpec) -> list[blob_pb2.BlobRef]:
    """Lists the files that a specification names."""
    return [ref for bundle in history.spec_bundles(spec) for ref in bundles.refs(bundle)]


def trainer(
    spec: run_pb2.RunSpec, store: BlobStore, reporter: Reports, schedule: Schedule, stopping: Callable[[], bool]
) -> Trainer:
    """Builds the model with its pre-trained weights on its device, and everything around it.

    In a group of processes the leader tells the others of the specification, so that they build the same.

    Raises:
        InvalidRequestError: The loss cannot learn from the training set, or the model not read it.

    """
    group = distributed.current()
    if group.leads:
        group.tell({"do": "build"}, spec.SerializeToString())
    model = models.build(spec.model, store).to(device.choose(spec.device))
    train_data = datasets.load(spec.train_data, store)
    eval_data = datasets.load(spec.eval_data, store) if spec.HasField("eval_data") else None
    options = specs.build(TrainingOptions, json_format.MessageToDict(spec.training_options), "training_options")
    if options.gradient_checkpointing:
        recompute_activations(model)
    torch.manual_seed(spec.seed)
    info, loss = _loss(spec, train_data, model)
    codes = batches.codes_of(train_data) if info.learns_labels else None
    if eval_data is not None:
        _check_eval(eval_data, info, codes)
    settings = AdamW()
    if spec.HasField("optimizer"):
        settings = specs.build(OPTIMIZERS[spec.optimizer.name], options_of(spec.optimizer), "optimizer")
    automatic = options.micro_batch_size == "auto"
    gradients = Gradients(
        model,
        loss,
        group,
        model.device,
        bf16=spec.precision == evaluation_pb2.PRECISION_BF16,
        rows=None if options.micro_batch_size == "auto" else options.micro_batch_size,
        # Several processes would have to find out together, in the midst of what they wait for each other in.
        may_halve=automatic and group.size == 1,
        say=lambda text: reporter.emit(log_event(text)),
    )
    return Trainer(
        model=model,
        gradients=gradients,
        optimizer=settings.build(model, loss),
        settings=settings,
        train_data=train_data,
        eval_data=eval_data,
        readers=(
            _reader(model, train_data, spec.train_data, store),
            None if eval_data is None else _reader(model, eval_data, spec.eval_data, store),
        ),
        codes=codes,
        options=options,
        epochs=spec.epochs,
        batch_size=spec.batch_size or batches.DEFAULT_BATCH_SIZE,
        seed=spec.seed,
        group=group,
        reporter=reporter,
        schedule=schedule,
        stopping=stopping,
    )


def _reader(model: SentenceTransformer, data: Dataset, bundle: blob_pb2.Bundle, store: BlobStore) -> Reader:
    return Reader(Inputs(model, data.items, Pictures(bundle, store)))


def _loss(spec: run_pb2.RunSpec, data: Dataset, model: SentenceTransformer) -> tuple[LossInfo, torch.nn.Module]:
    name = spec.loss.name if spec.HasField("loss") else ""
    info, options = losses.check(name, options_of(spec.loss), [data.kind], "loss")
    if data.kind == "items" and any(label is None for label in data.labels):
        raise InvalidRequestError("train_data has items without a label; give labels, or pairs")
    classes = len(batches.codes_of(data))
    if data.kind == "items" and classes < 2:
        raise InvalidRequestError("train_data has one label alone; at least two are needed to tell them apart")
    dim = model.get_embedding_dimension()
    made = info.build(options, Space(dim=0 if dim is None else dim, classes=classes))
    assert isinstance(made, torch.nn.Module)
    return info, made.to(model.device)


def _check_eval(data: Dataset, info: LossInfo, codes: dict[str, int] | None) -> None:
    if data.kind not in info.kinds:
        raise InvalidRequestError(
            f"the loss '{info.name}' takes {' or '.join(info.kinds)}, and eval_data holds {data.kind};"
            " give eval_data of the kind of train_data"
        )
    if data.kind == "items" and any(label is None for label in data.labels):
        raise InvalidRequestError("eval_data has items without a label; give labels, or leave it out")
    unknown = sorted({str(label) for label in data.labels} - set(codes)) if codes is not None else []
    if unknown:
        raise InvalidRequestError(
            f"eval_data has {len(unknown)} labels that train_data has not, for example '{unknown[0]}', and the loss"
            f" '{info.name}' learns each label; take another loss or leave them out"
        )
