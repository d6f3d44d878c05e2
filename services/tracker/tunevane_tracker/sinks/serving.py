"""The child's end of the pipe to the tracker: reads messages and answers them until it is told to end, or dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO


class Answers:
    """Where a child answers; may be used from any thread."""

    def __init__(self, pipe: BinaryIO) -> None:
        """Writes to `pipe`."""
        self._pipe = pipe
        self._lock = threading.Lock()

    def say(self, op: str, **message: object) -> None:
        """Sends one message, in one piece."""
        with self._lock:
            self._pipe.write(json.dumps({"op": op, **message}).encode() + b"\n")
            self._pipe.flush()


def serve(make: Callable[[Answers], Callable[[dict[str, Any]], bool]]) -> None:
    """Hands each message to a handler until that says to end; whatever goes wrong ends the process.

    Args:
        make: Makes the handler, which tells whether to go on. Messages are JSON objects, hence `Any`.

    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not get between the answers.
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        handle = make(answers)
        for line in sys.stdin.buffer:
            if not handle(json.loads(line)):
                return
    except Exception as error:
        # The class only: a message may contain a key.
        answers.say("failed", error=type(error).__name__)
        os._exit(1)
    # The parent is gone: its successor sends everything again.
    os._exit(1)
