"""Trainers of tiny models without a service around them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from google.protobuf import json_format

from support.models import tiny
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import component_pb2, event_pb2
from tunevane.callback.components import component
from tunevane.callback.schedule import Schedule
from tunevane.core.dataset import Dataset, from_labelled, from_pairs
from tunevane.nn.folders import folder_bundle
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import assembly
from tunevane_trainer.training.loop import Trainer

PAIRS = from_pairs([(f"frage {n} und {n * 7}", f"question {n}") for n in range(22)])
LABELLED = from_labelled([(f"text {n * 31} of {n % 4}", n % 4) for n in range(22)])


class Quiet:
    """Remembers what training reports."""

    def __init__(self) -> None:
        self.epoch = 0
        self.step = 0
        self.events: list[event_pb2.Event] = []

    def emit(self, *events: event_pb2.Event) -> None:
        self.events.extend(events)


@cache
def without_dropout() -> Path:
    """Makes the folder of a tiny model whose forward pass draws nothing at random."""
    import torch

    scratch = Path(mkdtemp(prefix="tunevane-tests-"))
    model = tiny(scratch, counted=False)
    inner: Any = model[0].model  # Any: torch types a submodule as module or tensor
    inner.config.hidden_dropout_prob = inner.config.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.save(str(scratch / "model"), create_model_card=False)
    return scratch / "model"


def trainer(
    store: BlobStore,
    data: Dataset = PAIRS,
    *,
    folder: Path | None = None,
    model: component_pb2.Component | None = None,
    loss: tuple[str, Mapping[str, object]] | None = None,
    optimizer: Mapping[str, object] | None = None,
    training: Mapping[str, object] | None = None,
    epochs: int = 3,
    batch_size: int = 8,
    eval_data: Dataset | None = None,
) -> Trainer:
    """Builds a trainer of a model folder, or of a model that is named."""
    if model is None:
        bundle = folder_bundle(folder or without_dropout(), store)
        model = component("sentence-transformers", {}, {"folder": bundle})
    spec = run_pb2.RunSpec(
        model=model,
        train_data=datasets.save(data, store),
        optimizer=component("adamw", {"lr": 1e-2, **(optimizer or {})}),
        epochs=epochs,
        batch_size=batch_size,
        device="cpu",
        seed=5,
    )
    if loss is not None:
        spec.loss.CopyFrom(component(*loss))
    if eval_data is not None:
        spec.eval_data.CopyFrom(datasets.save(eval_data, store))
    json_format.ParseDict(dict(training or {}), spec.training_options)
    return assembly.trainer(
        spec, store, Quiet(), Schedule([], "tiny", with_val_loss=eval_data is not None), lambda: False
    )
