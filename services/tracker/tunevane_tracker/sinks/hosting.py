"""The process of a hosted sink: imports its `Writer` and does what the tracker says."""

from __future__ import annotations

import base64
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.port import SinkUnavailableError
from tunevane_tracker.sinks.serving import Answers, serve
from tunevane_tracker.sinks.writer import Writer


def handler(answers: Answers) -> Callable[[dict[str, Any]], bool]:
    """Makes what answers the tracker; `Any`, because a message is JSON."""
    module, _, name = sys.argv[1].partition(":")
    make = getattr(importlib.import_module(module), name)
    writer: Writer = make(Path(sys.argv[2]), dict(os.environ))

    def handle(message: dict[str, Any]) -> bool:
        run = TrackedRun(**message["run"])
        position = 0
        try:
            if message["op"] == "open":
                position = writer.open(run)
            elif message["op"] == "write":
                writer.write(run, [Event.FromString(base64.b64decode(each)) for each in message["events"]])
            else:
                writer.close(run)
        except SinkUnavailableError as error:
            answers.say("unavailable", reason=str(error))
        else:
            answers.say("done", position=position)
        return True

    return handle


if __name__ == "__main__":
    serve(handler)
