"""Logs of the services: one line an event, to stderr, and what it is about as `key=value` behind the message."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SECRET = re.compile(
    r"""((?:api[_-]?key|authorization|password|secret|token)["']?\s*[=:]\s*["']?)((?:bearer\s+)?[^\s"',;]+)""",
    re.IGNORECASE,
)

_about: ContextVar[str] = ContextVar("about", default="")
"""What the current task or thread works on, as it stands behind each message."""


def _hidden(text: str) -> str:
    """Hides what is named like a secret, `token=...` for example."""
    return _SECRET.sub(r"\1***", text)


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Renders time, level, logger and message; an exception follows on lines of its own."""
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        message = _hidden(record.getMessage() + _about.get()).replace("\n", "\\n")
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {record.name} {message}"
        if record.exc_info:
            line += "\n" + _hidden(self.formatException(record.exc_info))
        return line


@contextmanager
def about(**values: object) -> Iterator[None]:
    """Adds ` key=value` to every line that this thread or task logs in the block, whoever writes it.

    A text with a space in it is quoted, so that a line can be taken apart again.
    """
    shown = (f"{value!r}" if " " in str(value) else str(value) for value in values.values())
    token = _about.set(_about.get() + "".join(f" {key}={text}" for key, text in zip(values, shown, strict=True)))
    try:
        yield
    finally:
        _about.reset(token)


def setup(service: str, level: int = logging.INFO) -> None:
    """Sends this process's logs to stderr; `service` names the process in its first line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tunevane").setLevel(level)
    get(service).debug("logging is set up")


def get(name: str) -> logging.Logger:
    """Returns the logger `tunevane.<name>`."""
    return logging.getLogger(f"tunevane.{name}")
