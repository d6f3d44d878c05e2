"""Protobuf's `Struct` as plain Python values."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import json_format
from google.protobuf.message import Message

from tunevane.errors import InvalidRequestError, Problem


def plain(message: Message) -> Mapping[str, object]:
    """Turns a Struct into plain values; a number without a fraction becomes an int again.

    Raises:
        InvalidRequestError: It contains a NaN, an infinity or an empty value.

    """
    try:
        values = json_format.MessageToDict(message)
    except (ValueError, json_format.Error) as error:
        raise InvalidRequestError(
            [Problem("config", f"must hold finite numbers, texts, lists and maps: {error}")]
        ) from None
    found = _integers(values)
    assert isinstance(found, dict)
    return found


def _integers(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_integers(each) for each in value]
    if isinstance(value, dict):
        return {key: _integers(each) for key, each in value.items()}
    return value
