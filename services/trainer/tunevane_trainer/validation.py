"""Everything about a run that can be known before it starts, checked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from google.protobuf import json_format

from tunevane import plugins
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, component_pb2, evaluation_pb2
from tunevane.callback import Callback, EvaluationCallback, WiSEFTCallback, compatibility
from tunevane.callback.base import Measures, MeasuresModel
from tunevane.callback.components import attempt, options_of
from tunevane.core import bundles, specs
from tunevane.core.dataset import Kind
from tunevane.errors import InvalidRequestError, Problem
from tunevane.nn import models
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training import losses
from tunevane_trainer.training.optimizers import OPTIMIZERS
from tunevane_trainer.training.options import TrainingOptions

DEFAULT_EPOCHS = 5
MAX_EPOCHS = 100_000

TWO_TOWERS = "text-to-image"
"""What models of two towers compare."""

TOWERS = ("text", "image")
"""Their names."""


def check(spec: run_pb2.RunSpec, blobs: BlobStore | None = None) -> None:
    """Refuses a specification that cannot work.

    Args:
        spec: What was asked for.
        blobs: Where its data may lie already; None where it is not here.

    Raises:
        InvalidRequestError: Lists every problem, each naming its field and what would work.

    """
    found = list(_numbers(spec))
    found.extend(_bundles(spec))
    found.extend(_complaints(models.check, spec.model, "model"))
    if spec.HasField("loss"):
        kinds = _kinds(spec.train_data, blobs)
        found.extend(_complaints(lambda loss, field: _check_loss(loss, field, kinds), spec.loss, "loss"))
    options = json_format.MessageToDict(spec.training_options)
    found.extend(specs.attempt(TrainingOptions, options, "training_options")[1])
    if spec.HasField("optimizer"):
        found.extend(_complaints(_check_optimizer, spec.optimizer, "optimizer"))
    found.extend(_callbacks(spec))
    if found:
        raise InvalidRequestError(found)


def _complaints(
    complain: Callable[[component_pb2.Component, str], object], component: component_pb2.Component, field: str
) -> Sequence[Problem]:
    try:
        complain(component, field)
    except InvalidRequestError as error:
        return error.problems
    return ()


def _numbers(spec: run_pb2.RunSpec) -> Iterator[Problem]:
    if not 0 <= spec.epochs <= MAX_EPOCHS:
        yield Problem("epochs", f"must be in [1, {MAX_EPOCHS}], not {spec.epochs}")
    if spec.batch_size < 0 or spec.batch_size == 1:
        yield Problem("batch_size", f"must be at least 2, not {spec.batch_size}")
    if spec.device not in ("", "auto", "cpu", "cuda"):
        yield Problem("device", f"must be auto, cpu or cuda, not '{spec.device}'")
    if spec.precision not in evaluation_pb2.Precision.values():
        yield Problem("precision", f"has the unknown value {spec.precision}")
    if spec.HasField("max_restarts") and spec.max_restarts < 0:
        yield Problem("max_restarts", f"must be at least 0, not {spec.max_restarts}")
    if len(spec.description) > 200:
        yield Problem("description", f"must have at most 200 characters, not {len(spec.description)}")


def _bundles(spec: run_pb2.RunSpec) -> Iterator[Problem]:
    named = {"train_data": spec.train_data}
    if spec.HasField("eval_data"):
        named["eval_data"] = spec.eval_data
    for position, callback in enumerate(spec.callbacks):
        for name in callback.attachments:
            named[f"callbacks[{position}].{name}"] = callback.attachments[name]
    for field, bundle in named.items():
        try:
            bundles.check(bundle)
        except InvalidRequestError as error:
            yield Problem(field, str(error))


def _kinds(data: blob_pb2.Bundle, blobs: BlobStore | None) -> Sequence[Kind]:
    """Says what a training set may be, which is known for sure once its files are here."""
    paths = {file.path for file in data.files}
    if "dataset.json" not in paths:
        return ()
    if blobs is not None and blobs.has(bundles.get(data, "dataset.json")):
        return (datasets.kind_of(data, blobs),)
    return ("pairs", "scored") if "pairs.jsonl" in paths else ("items",)


def _check_loss(component: component_pb2.Component, field: str, kinds: Sequence[Kind]) -> None:
    losses.check(component.name, options_of(component), kinds, field)


def _check_optimizer(component: component_pb2.Component, field: str) -> None:
    if component.name not in OPTIMIZERS:
        raise InvalidRequestError([Problem(f"{field}.name", specs.unknown("optimizer", component.name, OPTIMIZERS))])
    specs.build(OPTIMIZERS[component.name], options_of(component), field)


def _callbacks(spec: run_pb2.RunSpec) -> Iterator[Problem]:
    built: list[Callback | None] = []
    for position, component in enumerate(spec.callbacks):
        callback, found = attempt(component, f"callbacks[{position}]")
        built.append(callback)
        yield from found
    monitored = compatibility.losses(with_val_loss=spec.HasField("eval_data"))
    yield from compatibility.problems(built, spec.model.name, monitored)
    evaluations = [(n, each) for n, each in enumerate(built) if isinstance(each, EvaluationCallback)]
    for position, callback in enumerate(built):
        if isinstance(callback, WiSEFTCallback) and callback.alpha == "sweep" and not evaluations and None not in built:
            yield Problem(f"callbacks[{position}].alpha", "'sweep' needs an EvaluationCallback to choose by; add one")
    for position, callback in enumerate(built):
        if callback is not None and _only_announces(callback):
            yield Problem(
                f"callbacks[{position}]", f"'{callback.key}' announces metrics; give its class a method measure(model)"
            )
    for position, evaluation in evaluations:
        yield from _towers(spec.model.name, evaluation, f"callbacks[{position}]")


def _only_announces(callback: object) -> bool:
    """Tells whether a callback names metrics that nobody would measure."""
    return isinstance(callback, Measures) and not isinstance(callback, EvaluationCallback | MeasuresModel)


def _towers(model: str, evaluation: EvaluationCallback, field: str) -> Iterator[Problem]:
    """Checks which of a model's towers an evaluation names, where there are two."""
    if model not in plugins.names("models"):
        return
    tasks = {task.strip() for task in models.find(model).task.split(",")}
    # A user's folder may have two towers or not, which is known once it is built.
    if tasks == {TWO_TOWERS} and evaluation.model is None:
        yield Problem(f"{field}.model", f"is needed: '{model}' has two towers; give model='text' or 'image'")
    for option in ("model", "index_model"):
        chosen = getattr(evaluation, option)
        if chosen is None:
            continue
        if TWO_TOWERS not in tasks:
            yield Problem(f"{field}.{option}", f"'{model}' has one tower, so there is nothing to choose; leave it out")
        elif chosen not in TOWERS:
            yield Problem(f"{field}.{option}", f"must be 'text' or 'image', not '{chosen}'")
