"""Turns options by name into a typed configuration object, and reports everything that does not fit.

Options arrive as JSON-like values (`google.protobuf.Struct` has only doubles, so 3.0 is the integer 3).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from tunevane.errors import InvalidRequestError, Problem

T = TypeVar("T")


def build(cls: type[T], options: Mapping[str, object], field: str) -> T:
    """Makes an instance of a dataclass from options.

    Args:
        cls: The dataclass. Its fields are the options; a method `problems()` may check values.
        options: Values by option name.
        field: Path of the options in the request, for messages.

    Raises:
        InvalidRequestError: Lists every unknown, missing, mistyped or impossible option.

    """
    made, found = attempt(cls, options, field)
    if made is None or found:
        raise InvalidRequestError(found)
    return made


def attempt(cls: type[T], options: Mapping[str, object], field: str) -> tuple[T | None, list[Problem]]:
    """Makes an instance as `build` does, as far as possible.

    Returns:
        The instance, None where options are unknown, missing or mistyped; and everything that is wrong.
    """
    found: list[Problem] = []
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]  # T is a dataclass
    values: dict[str, object] = {}
    for name, value in options.items():
        if name not in known:
            found.append(Problem(f"{field}.{name}", unknown("option", name, known)))
            continue
        try:
            values[name] = coerce(value, hints[name])
        except ValueError as error:
            found.append(Problem(f"{field}.{name}", str(error)))
    for name, option in known.items():
        missing = option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING
        if missing and name not in options:
            found.append(Problem(f"{field}.{name}", "is required"))
    if found:
        return None, found
    made = cls(**values)
    return made, list(check(made, field))


def check(made: object, field: str) -> Iterator[Problem]:
    """Asks an object for what is wrong with its values, with full paths."""
    problems = getattr(made, "problems", None)
    if problems is not None:
        for problem in problems():
            yield Problem(f"{field}.{problem.field}" if problem.field else field, problem.message)


def unknown(kind: str, name: str, known: typing.Iterable[str]) -> str:
    """Words the complaint about a name that is not known, with the nearest that is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {kind} '{name}'; {hint}known are: {', '.join(names)}"


def coerce(value: object, hint: Any) -> object:  # Any: type hints have no common type
    """Reads a JSON-like value as the given type.

    Raises:
        ValueError: It does not fit; the message says what would.

    """
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        wanted = [option for option in get_args(hint) if option is not type(None)]
        complaints = []
        for option in wanted:
            try:
                return coerce(value, option)
            except ValueError as error:
                complaints.append(str(error))
        raise ValueError(complaints[0] if len(complaints) == 1 else " or ".join(complaints))
    if origin is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}, not {value!r}")
        return value
    if origin in (tuple, list, Sequence) or hint in (tuple, list):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"must be a list, not {value!r}")
        inner = (get_args(hint) or (object,))[0]
        return tuple(coerce(item, inner) for item in value)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a mapping, not {value!r}")
        return dict(value)
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r}")
        return value
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
            raise ValueError(f"must be a whole number, not {value!r}")
        return int(value)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError(f"must be a number, not {value!r}")
        return float(value)
    if hint is str:
        if not isinstance(value, str):
            raise ValueError(f"must be text, not {value!r}")
        return value
    return value


def options_of(made: object, leave_out: typing.Container[str] = ()) -> dict[str, object]:
    """Lists the options of a configuration object that differ from their defaults, as JSON-like values."""
    chosen: dict[str, object] = {}
    for option in dataclasses.fields(made):  # type: ignore[arg-type]  # callers pass dataclass instances
        value = getattr(made, option.name)
        if option.init and option.name not in leave_out and value != option.default:
            chosen[option.name] = list(value) if isinstance(value, tuple) else value
    return chosen


def schema(cls: type) -> dict[str, object]:
    """Describes a dataclass as a JSON Schema object."""
    hints = typing.get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    described: dict[str, object] = {}
    for option in fields:
        described[option.name] = _schema_of(hints[option.name])
        if option.default is not dataclasses.MISSING:
            default = option.default
            described[option.name] |= {"default": list(default) if isinstance(default, tuple) else default}  # type: ignore[operator]  # a dict by construction
    required = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    return {"type": "object", "properties": described, "required": required, "additionalProperties": False}


def _schema_of(hint: Any) -> dict[str, object]:  # Any: type hints have no common type
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(option) for option in get_args(hint)]}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": _schema_of((get_args(hint) or (object,))[0])}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": names[hint]} if hint in names else {}
