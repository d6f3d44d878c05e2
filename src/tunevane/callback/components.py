"""Callbacks as messages: what a request carries, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf import json_format, struct_pb2

from tunevane import plugins
from tunevane.api.type.v1 import blob_pb2, component_pb2
from tunevane.callback.base import Callback, Measures
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem


def options_of(component: component_pb2.Component) -> dict[str, object]:
    """Returns the options of a component as plain JSON values."""
    found: dict[str, object] = json_format.MessageToDict(component.options)
    return found


def component(
    name: str,
    options: Mapping[str, object],
    attachments: Mapping[str, blob_pb2.Bundle] | None = None,
) -> component_pb2.Component:
    """Makes a component message."""
    struct = struct_pb2.Struct()
    json_format.ParseDict(dict(options), struct)
    return component_pb2.Component(name=name, options=struct, attachments=dict(attachments or {}))


def to_component(callback: Callback, attach: Callable[[object, str], blob_pb2.Bundle]) -> component_pb2.Component:
    """States a callback as a message.

    Args:
        callback: The callback; it is not changed.
        attach: Makes the files of a data set, given what the user passed and the option's name.

    """
    bundles = {
        option: attach(getattr(callback, option), option)
        for option in callback.attachments
        if getattr(callback, option) is not None
    }
    return component(callback.name, specs.options_of(callback, callback.attachments), bundles)


def from_component(message: component_pb2.Component, field: str) -> Callback:
    """Builds the callback that a message states.

    Raises:
        InvalidRequestError: Lists an unknown name, or every option that does not fit.

    """
    built, found = attempt(message, field)
    if built is None or found:
        raise InvalidRequestError(found)
    return built


def attempt(message: component_pb2.Component, field: str) -> tuple[Callback | None, list[Problem]]:
    """Builds the callback that a message states, as far as possible.

    Returns:
        The callback, None where it cannot be made or not be asked what it measures; and everything that is wrong.

    """
    known = plugins.names("callbacks")
    if message.name not in known:
        return None, [Problem(f"{field}.name", specs.unknown("callback", message.name, known))]
    cls = plugins.load("callbacks", message.name)
    assert isinstance(cls, type)
    assert issubclass(cls, Callback)
    found = [
        Problem(f"{field}.{name}", f"is no data set of '{message.name}'; those are: {cls.attachments}")
        for name in message.attachments
        if name not in cls.attachments
    ]
    made, wrong = specs.attempt(cls, {**options_of(message), **dict(message.attachments)}, field)
    found += wrong
    return (None if found and _measures(made) else made), found


def _measures(callback: object) -> bool:
    return isinstance(callback, Measures)
