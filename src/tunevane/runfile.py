"""A run as a YAML file: the keys are the arguments of `fit`, the callbacks are registered names with their options.

    model: minilm
    train_data: train.csv
    epochs: 5
    callbacks:
      - evaluation: {query_data: queries.csv, index_data: index.csv}
      - best-model-checkpoint: {monitor: reciprocal_rank}
      - wandb-logger

Relative paths are relative to the file. `schema()` describes it for editors.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml

from tunevane import describe, plugins
from tunevane.callback.base import Callback
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from tunevane.client.run import Run

MAX_BYTES = 1 << 20
"""Largest file that is read; data belongs into files of its own."""

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"

_PATHS = ("train_data", "eval_data")


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What a file says; the fields are the arguments of `tunevane.fit`."""

    train_data: str
    """What is learned from: a path, or the name of a pushed data set."""

    model: str = "minilm"
    """Registered name, or the path of a sentence-transformers folder."""

    eval_data: str | None = None
    """What the validation loss is computed on."""

    epochs: int = 5
    """Passes over the training set."""

    batch_size: int | None = None
    """Rows per batch; the service chooses when it is left out."""

    loss: str | None = None
    """Registered name; chosen by the kind of training set when it is left out."""

    learning_rate: float | None = None
    """Peak of the learning rate."""

    model_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Options of the model, for example `{max_seq_length: 32}`."""

    loss_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Options of the loss, for example `{temperature: 0.05}`."""

    optimizer_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """Options of the optimizer, for example `{warmup: 0.1}`."""

    training_options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """How batches are drawn and computed, for example `{micro_batch_size: 16}`."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training pass."""

    seed: int = 0
    """Of every random choice."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs."""

    name: str | None = None
    """Name of the run; made up when it is left out."""

    description: str = ""
    """For people, at most 200 characters."""

    max_restarts: int | None = None
    """Times a lost worker is replaced."""

    is_labeled: bool = False
    """Whether two CSV columns are content and label rather than a pair."""

    callbacks: tuple[object, ...] = ()
    """Registered names, each with its options."""


def read(path: Path) -> dict[str, object]:
    """Reads a file into the arguments of `tunevane.fit`.

    Args:
        path: The file; relative paths in it are relative to its folder.

    Returns:
        What the file says, checked, with callbacks as objects. What it leaves out is left out.

    Raises:
        InvalidRequestError: Lists every problem, each with its line.

    """
    document, lines = _parse(path)
    found: list[Problem] = []
    values: dict[str, object] = {}
    callbacks = document.pop("callbacks", [])
    try:
        checked = specs.build(RunFile, document, "")
        values = {key: getattr(checked, key) for key in document}
    except InvalidRequestError as error:
        found.extend(Problem(each.field.removeprefix("."), each.message) for each in error.problems)
    made, wrong = _callbacks(callbacks, path.parent)
    found.extend(wrong)
    if found:
        raise InvalidRequestError(
            [Problem(_place(path, lines, each.field), f"{each.field}: {each.message}") for each in found]
        )
    for key in _PATHS:
        if isinstance(values.get(key), str):
            values[key] = _beside(path.parent, str(values[key]))
    if os.sep in str(values.get("model", "")):
        values["model"] = path.parent / Path(str(values["model"])).expanduser()
    if made:
        values["callbacks"] = made
    return values


def create(path: Path, **overrides: object) -> Run:
    """Starts the run that a file describes; an override that is not None wins over the file.

    Raises:
        InvalidRequestError: Lists everything that cannot work; nothing was started.

    """
    from tunevane import session

    given = {key: value for key, value in overrides.items() if value is not None}
    return session.fit(**(read(path) | given))  # type: ignore[arg-type]  # checked by `read`


def _beside(folder: Path, data: str) -> str:
    """Makes a path relative to the file's folder; the name of a pushed data set stays what it is."""
    if "." not in data and os.sep not in data and not (folder / data).exists():
        return data
    return str(folder / Path(data).expanduser())


def _callbacks(listed: object, folder: Path) -> tuple[list[Callback], list[Problem]]:
    if not isinstance(listed, list):
        return [], [Problem("callbacks", f"must be a list of names with options, not {listed!r}")]
    made: list[Callback] = []
    found: list[Problem] = []
    for position, entry in enumerate(listed):
        field = f"callbacks[{position}]"
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            found.append(Problem(field, f"must be one name, or one name with its options, not {entry!r}"))
            continue
        ((name, options),) = entry.items()
        if name not in plugins.names("callbacks"):
            found.append(Problem(field, specs.unknown("callback", str(name), plugins.names("callbacks"))))
            continue
        if not isinstance(options or {}, dict):
            found.append(Problem(f"{field}.{name}", f"must be a mapping of options, not {options!r}"))
            continue
        cls = plugins.load("callbacks", name)
        assert isinstance(cls, type)
        assert issubclass(cls, Callback)
        chosen = dict(options or {})
        for option in cls.attachments:
            if isinstance(chosen.get(option), str):
                chosen[option] = _beside(folder, chosen[option])
        try:
            made.append(specs.build(cls, chosen, f"{field}.{name}"))
        except InvalidRequestError as error:
            found.extend(error.problems)
    return made, found


def _parse(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """Returns the document, and the line of every field in it, from 1."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequestError(f"{path} is larger than {MAX_BYTES} bytes; data belongs into files of its own")
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise InvalidRequestError(f"{place}: is no YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise InvalidRequestError(f"{path}: must be a mapping of keys like model, train_data and callbacks")
    lines: dict[str, int] = {}
    doubled = list(_number(node, "", lines, set()))
    if doubled:
        raise InvalidRequestError(
            [Problem(f"{path}:{line}", f"{field}: is there already, in line {lines[field]}") for field, line in doubled]
        )
    try:
        document: dict[str, object] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        problem = getattr(error, "problem", None) or error
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise InvalidRequestError(f"{place}: is no plain YAML: {problem}") from error
    if not all(isinstance(key, str) for key in document):
        raise InvalidRequestError(f"{path}: keys must be text, like model, train_data and callbacks")
    return document, lines


def _number(node: yaml.Node, field: str, lines: dict[str, int], above: set[int]) -> Iterator[tuple[str, int]]:
    """Notes the line of every field below a node; yields keys that are there twice."""
    lines.setdefault(field, node.start_mark.line + 1)
    if id(node) in above:
        raise InvalidRequestError(f"line {node.start_mark.line + 1}: an alias that contains itself")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{field}.{key.value}" if field else str(key.value)
            if inner in lines:
                yield inner, key.start_mark.line + 1
                continue
            lines[inner] = key.start_mark.line + 1
            yield from _number(value, inner, lines, above)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _number(value, f"{field}[{position}]", lines, above)


def _place(path: Path, lines: Mapping[str, int], field: str) -> str:
    """Says file and line of the nearest field that the file has."""
    while field and field not in lines:
        field = field.rpartition(".")[0]
    return f"{path}:{lines.get(field, 1)}"


def schema() -> dict[str, object]:
    """Describes the file as a JSON Schema, with every registered callback and its options."""
    described = describe.schema(RunFile)
    properties = described["properties"]
    assert isinstance(properties, dict)
    for key in ("model_options", "loss_options", "optimizer_options", "training_options"):
        properties[key] |= {"type": "object"}
    with_options = []
    for name, cls in plugins.load_all("callbacks").items():
        assert isinstance(cls, type)
        options = describe.schema(cls) | {"description": describe.summary(cls)}
        with_options.append(
            {"type": "object", "properties": {name: options}, "required": [name], "additionalProperties": False}
        )
    properties["callbacks"] |= {"items": {"anyOf": [{"enum": plugins.names("callbacks")}, *with_options]}}
    return {"$schema": SCHEMA_ID, "title": "A tunevane run", **described}
