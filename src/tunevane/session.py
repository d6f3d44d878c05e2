"""What people call: fit, connect, get_run, and the rest of the front door."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from google.protobuf import json_format

from tunevane.api.data.v1 import dataset_service_pb2
from tunevane.api.trainer.v1 import run_pb2, trainer_service_pb2
from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.callback.base import Callback
from tunevane.callback.components import component, to_component
from tunevane.client.connection import Connection
from tunevane.client.display import out
from tunevane.client.models import ModelDescription, descriptions, models_table
from tunevane.client.run import Run
from tunevane.core import bundles, names, specs
from tunevane.errors import (
    BlobsMissingError,
    DataFormatError,
    InvalidRequestError,
    NotFoundError,
    Problem,
    TunevaneError,
)
from tunevane.local.listening import ListenedRun, is_listener
from tunevane.nn.named import named
from tunevane.rpc.blob_client import Progress
from tunevane.storage import datasets

TARGET_VARIABLE = "TUNEVANE_TARGET"

_default: list[Connection] = []


@cache
def _connection(target: str) -> Connection:
    return Connection(target)


def connect(target: str | None = None) -> Connection:
    """Chooses the trainer service of the following calls.

    Args:
        target: Address, for example `trainer.example.com:50051`; None takes `TUNEVANE_TARGET`, and where that is not
            set the services of this machine, which are started if they are not running.

    Raises:
        StackStartError: The local services do not start.

    """
    chosen = target or os.environ.get(TARGET_VARIABLE)
    if not chosen:
        from tunevane import local

        chosen = local.ensure().trainer
    _default[:] = [_connection(chosen)]
    return _default[0]


def _current(target: str | None) -> Connection:
    if target is not None:
        return _connection(target)
    if not _default or not _answers(_default[0]):
        return connect()
    return _default[0]


def _answers(connection: Connection) -> bool:
    """Tells whether a connection that was chosen before is still good; local services may have gone to sleep."""
    if os.environ.get(TARGET_VARIABLE) or not connection.target.startswith("127.0.0.1:"):
        return True
    try:
        connection.trainer.ListRuns(trainer_service_pb2.ListRunsRequest(page_size=1), timeout=3)
    except TunevaneError:
        return False
    return True


def fit(
    *,
    model: str | Path = "minilm",
    train_data: object,
    eval_data: object = None,
    val_split: float | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    loss: str | None = None,
    learning_rate: float | None = None,
    callbacks: Iterable[Callback] = (),
    model_options: Mapping[str, object] | None = None,
    loss_options: Mapping[str, object] | None = None,
    optimizer_options: Mapping[str, object] | None = None,
    training_options: Mapping[str, object] | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    name: str | None = None,
    description: str = "",
    max_restarts: int | None = None,
    is_labeled: bool = False,
    target: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Starts a fine-tuning and returns at once.

    Args:
        model: Registered name; the path of a folder of sentence-transformers or transformers; or the id of one on the
            Hugging Face hub, `owner/name`, which is downloaded here and sent along.
        train_data: What is learned from: a path (CSV, JSONL), records, a table, or the name of a pushed data set.
        eval_data: What the validation loss is computed on; None for none.
        val_split: Share of train_data, in (0, 1), that is held out for the validation loss instead; drawn by seed,
            connected pairs together.
        epochs: Passes over the training set.
        batch_size: Rows per batch; None lets the service choose.
        loss: Registered name; None chooses by the kind of training set.
        learning_rate: Peak of the learning rate; None is the optimizer's default.
        callbacks: In any order; they are not changed. Those that are not registered live in this process and hear
            the moments of the run: they listen, and can neither measure nor decide.
        model_options: Options of the model, for example `{"max_seq_length": 32}`.
        loss_options: Options of the loss, for example `{"temperature": 0.05}`.
        optimizer_options: Options of the optimizer, for example `{"warmup": 0.1}`.
        training_options: How batches are drawn and computed, for example `{"micro_batch_size": 16}`.
        precision: Arithmetic of the training pass.
        seed: Of every random choice; on the CPU the same seed gives the same weights to the bit.
        device: Where training runs.
        name: Name of the run, 4 to 63 lower-case letters, digits and hyphens; None makes one up.
        description: For people, at most 200 characters.
        max_restarts: Times a lost worker is replaced; None is the service's default, 3.
        is_labeled: Whether two CSV columns are content and label rather than a pair.
        target: Address of a trainer service; None as in `connect`.
        progress: Called with bytes done and to do while data is uploaded.

    Raises:
        InvalidRequestError: Lists everything that cannot work; nothing was started.
        DataFormatError: A data file cannot be read; names file, line and reason.
        AlreadyExistsError: There is a run of that name.

    """
    if name is not None:
        names.check(name, "name")
    connection = _current(target)
    attach = _Attacher(connection, is_labeled)
    train, held_out = attach.train(train_data, eval_data, val_split, seed)
    checked = [(_checked(each, n), f"callbacks[{n}]") for n, each in enumerate(callbacks)]
    listeners = [each for each, field in checked if is_listener(each, field)]
    remote = [each for each, _ in checked if not any(each is listener for listener in listeners)]
    rate = {} if learning_rate is None else {"lr": learning_rate}
    optimizer = {**rate, **(optimizer_options or {})}
    spec = run_pb2.RunSpec(
        model=named(model, model_options or {}, connection.store),
        train_data=train,
        callbacks=[to_component(each, attach) for each in remote],
        epochs=_whole(epochs, "epochs"),
        batch_size=0 if batch_size is None else _whole(batch_size, "batch_size"),
        seed=seed,
        device=device,
        description=description,
        max_restarts=max_restarts,
        precision=evaluation_pb2.PRECISION_BF16 if precision == "bf16" else evaluation_pb2.PRECISION_FP32,
    )
    if held_out is not None:
        spec.eval_data.CopyFrom(held_out)
    if training_options:
        json_format.ParseDict(dict(training_options), spec.training_options)
    if optimizer:
        spec.optimizer.CopyFrom(component("adamw", optimizer))
    if loss is not None or loss_options:
        if loss is None:
            raise InvalidRequestError([Problem("loss", "is needed where loss_options are given")])
        spec.loss.CopyFrom(component(loss, loss_options or {}))
    request = trainer_service_pb2.CreateRunRequest(spec=spec, run_id=name or "", request_id=str(uuid.uuid4()))
    # What cannot work is said before anything is uploaded.
    request.validate_only = True
    connection.trainer.CreateRun(request)
    request.validate_only = False
    attach.push(progress)
    made = connection.trainer.CreateRun(request).run.name
    return ListenedRun(connection, made, listeners) if listeners else Run(connection, made)


def _whole(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError([Problem(field, f"must be a whole number of at least 1, not {value!r}")])
    return value


def _checked(callback: Callback, position: int) -> Callback:
    field = f"callbacks[{position}]"
    if not isinstance(callback, Callback):
        raise InvalidRequestError([Problem(field, f"must be a callback, not a {type(callback).__name__}")])
    found = list(specs.check(callback, field))
    if found:
        raise InvalidRequestError(found)
    return callback


class _Attacher:
    """Turns what people pass as data into files, each source once, and uploads them at the end."""

    def __init__(self, connection: Connection, is_labeled: bool) -> None:
        self._connection = connection
        self._is_labeled = is_labeled
        self._bundles: list[blob_pb2.Bundle] = []

    def __call__(self, data: object, option: str) -> blob_pb2.Bundle:
        """Returns the bundle of a data set; queries and indexes of two columns are contents with labels."""
        if isinstance(data, str) and "." not in data and os.sep not in data:
            named = self._named(data)
            if named is not None:
                return named
        labelled = self._is_labeled if option in ("train_data", "eval_data") else True
        try:
            bundle = datasets.write(data, self._connection.store, is_labeled=labelled)
        except DataFormatError as error:
            raise DataFormatError([Problem(option, str(error))]) from None
        self._bundles.append(bundle)
        return bundle

    def train(
        self, data: object, eval_data: object, val_split: float | None, seed: int
    ) -> tuple[blob_pb2.Bundle, blob_pb2.Bundle | None]:
        """Returns what is learned from, and what the validation loss is computed on."""
        if val_split is None:
            return self(data, "train_data"), None if eval_data is None else self(eval_data, "eval_data")
        if eval_data is not None:
            raise InvalidRequestError([Problem("val_split", "and eval_data exclude each other; give one of them")])
        if not 0 < val_split < 1:
            raise InvalidRequestError([Problem("val_split", f"must be in (0, 1), not {val_split}")])
        if isinstance(data, str) and "." not in data and os.sep not in data and not Path(data).exists():
            raise InvalidRequestError([Problem("val_split", f"needs the data itself, and '{data}' is no file")])
        parts = datasets.write_split(
            data, self._connection.store, val_split=val_split, seed=seed, is_labeled=self._is_labeled
        )
        self._bundles.extend(parts)
        return parts

    def _named(self, name: str) -> blob_pb2.Bundle | None:
        try:
            request = dataset_service_pb2.GetDatasetRequest(name=f"datasets/{name}")
            return self._connection.datasets.GetDataset(request).dataset.content
        except NotFoundError:
            if Path(name).exists():
                return None
            raise NotFoundError(f"there is neither a file nor a pushed data set '{name}'") from None

    def push(self, progress: Progress | None) -> None:
        """Uploads what the service lacks, model folders included."""
        refs = [
            blob_pb2.BlobRef(blake3=digest, size_bytes=size) for digest, size, _ in self._connection.store.digests()
        ]
        self._connection.blobs.push(self._connection.store, refs, progress)


def get_run(name: str, *, target: str | None = None) -> Run:
    """Finds a run by name.

    Raises:
        NotFoundError: There is none.

    """
    run = Run(_current(target), name)
    run.status()
    return run


def list_runs(limit: int = 50, *, target: str | None = None) -> list[Run]:
    """Lists runs, newest first."""
    connection = _current(target)
    return [Run(connection, run.name) for run in connection.list_runs(limit)]


def delete_run(name: str, *, target: str | None = None) -> None:
    """Deletes a run that has ended, with its history."""
    Run(_current(target), name).delete()


def push_dataset(name: str, data: object, *, is_labeled: bool = False, target: str | None = None) -> None:
    """Uploads a data set and gives it a name that runs can use instead of a file.

    Raises:
        AlreadyExistsError: The name stands for other content.
        DataFormatError: The data cannot be read.

    """
    names.check(name, "name")
    connection = _current(target)
    content = datasets.write(data, connection.store, is_labeled=is_labeled)
    request = dataset_service_pb2.CreateDatasetRequest(
        dataset_id=name, dataset=dataset_service_pb2.Dataset(content=content), request_id=str(uuid.uuid4())
    )
    try:
        connection.datasets.CreateDataset(request)
    except BlobsMissingError:
        connection.blobs.push(connection.store, bundles.refs(content))
        connection.datasets.CreateDataset(request)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A named data set."""

    name: str
    """Its name."""

    item_count: int
    """Items in it."""


def list_datasets(*, target: str | None = None) -> list[DatasetInfo]:
    """Lists the data sets that have a name."""
    found = _current(target).list_datasets()
    return [DatasetInfo(each.name.removeprefix("datasets/"), each.item_count) for each in found]


def delete_dataset(name: str, *, target: str | None = None) -> None:
    """Removes a data set's name; its files stay while a run refers to them."""
    request = dataset_service_pb2.DeleteDatasetRequest(name=f"datasets/{name}")
    _current(target).datasets.DeleteDataset(request)


@dataclasses.dataclass(frozen=True)
class ComponentInfo:
    """Something that runs can name."""

    name: str
    """Registered name."""

    summary: str
    """One sentence."""


def _components(kind: trainer_service_pb2.ComponentKind.ValueType, target: str | None) -> list[ComponentInfo]:
    request = trainer_service_pb2.ListComponentsRequest(kind=kind)
    found = _current(target).trainer.ListComponents(request).components
    return [ComponentInfo(each.name, each.summary) for each in found]


def list_models(*, target: str | None = None) -> list[ComponentInfo]:
    """Lists the models that runs can name."""
    return _components(trainer_service_pb2.COMPONENT_KIND_MODEL, target)


def describe_models(task: str | None = None, *, target: str | None = None) -> list[ModelDescription]:
    """Shows the models that runs can name in a table, and returns what it shows.

    Args:
        task: Only those for `text-to-text`, `image-to-image` or `text-to-image`; None shows all.
        target: Address of a trainer service; None as in `connect`.

    Raises:
        InvalidRequestError: No model is for this task; lists the tasks.

    """
    request = trainer_service_pb2.ListComponentsRequest(kind=trainer_service_pb2.COMPONENT_KIND_MODEL)
    found = descriptions(_current(target).trainer.ListComponents(request).components, task)
    out().print(models_table(found))
    return found


def list_losses(*, target: str | None = None) -> list[ComponentInfo]:
    """Lists the losses that runs can name."""
    return _components(trainer_service_pb2.COMPONENT_KIND_LOSS, target)


def list_callbacks(*, target: str | None = None) -> list[ComponentInfo]:
    """Lists the callbacks that runs can name."""
    return _components(trainer_service_pb2.COMPONENT_KIND_CALLBACK, target)


def list_metrics(*, target: str | None = None) -> list[ComponentInfo]:
    """Lists the metrics that evaluations can name."""
    return _components(trainer_service_pb2.COMPONENT_KIND_METRIC, target)
