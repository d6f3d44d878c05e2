"""JSON lines: the run first, then every event as it is, in the form of the sink `jsonl`.

Nothing is lost: an event that JSON cannot say in full, because it has fields of a newer version or a NaN with
other bits than usual, has its bytes beside it as `encoded`, base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import DataFormatError
from tunevane_tracker.export.source import Source


def write(source: Source, path: Path) -> None:
    """Writes a run into a file."""
    run = source.run
    with path.open("w", encoding="utf-8", newline="\n") as file:
        about = {"name": run.name, "uid": run.uid, "config": run.config}
        # In one order, wherever the configuration comes from.
        file.write(json.dumps({"run": about}, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n")
        for event in source.events:
            file.write(_line(_as_dict(event)))


def read(path: Path) -> Iterator[Event]:
    """Reads the events back, as they were.

    Raises:
        DataFormatError: A line is no event; names it.

    """
    with path.open(encoding="utf-8") as file:
        next(file, None)
        for number, line in enumerate(file, 2):
            try:
                content = json.loads(line)
                encoded = content.pop("encoded", None)
                if encoded is not None:
                    yield Event.FromString(base64.b64decode(encoded, validate=True))
                else:
                    yield json_format.ParseDict(content, Event())
            except (ValueError, TypeError, AttributeError, json_format.Error) as error:
                raise DataFormatError(f"{path}, line {number}: this is no event ({error})") from error


def _as_dict(event: Event) -> dict[str, Any]:
    content: dict[str, Any] = json_format.MessageToDict(event, preserving_proto_field_name=True)
    exact = event.SerializeToString(deterministic=True)
    if json_format.ParseDict(content, Event()).SerializeToString(deterministic=True) != exact:
        content["encoded"] = base64.b64encode(exact).decode()
    return content


def _line(content: Mapping[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
