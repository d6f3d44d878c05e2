"""Logs of the services: one line an event, to stderr, and what it is about as `key=value` behind the message."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_SECRET = re.compile(
    r"""((?:api[_-]?key|authorization|password|secret|token)["']?\s*[=:]\s*["']?)((?:bearer\s+)?[^\s"',;]+)""",
    re.IGNORECASE,
)

_about: ContextVar[Mapping[str, object]] = ContextVar("about", default=MappingProxyType({}))
"""What the current task or thread works on, by name."""

FORMAT_VARIABLE = "TUNEVANE_LOG_FORMAT"
"""`text`, which is the default, or `json`, for those who collect logs."""


def _hidden(text: str) -> str:
    """Hides what is named like a secret, `token=...` for example."""
    return _SECRET.sub(r"\1***", text)


class _Text(logging.Formatter):
    """Time, level, logger and message, then `key=value`; an exception follows on lines of its own."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Renders a line; a value with a space in it is quoted, so that a line can be taken apart again."""
        about = "".join(
            f" {key}={value!r}" if " " in str(value) else f" {key}={value}" for key, value in _about.get().items()
        )
        message = _hidden(record.getMessage() + about).replace("\n", "\\n")
        line = f"{self.stamp(record)} {record.levelname} {record.name} {message}"
        if record.exc_info:
            line += "\n" + _hidden(self.formatException(record.exc_info))
        return line

    def stamp(self, record: logging.LogRecord) -> str:
        """Renders the time, to the millisecond."""
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"


class _Json(_Text):
    """An object a line: `time`, `level`, `logger`, `message`, `exception`, and what the line is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders a line."""
        content = {
            "time": self.stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _hidden(record.getMessage()),
            **_about.get(),
        }
        if record.exc_info:
            content["exception"] = _hidden(self.formatException(record.exc_info))
        return json.dumps(content, ensure_ascii=False, default=str)


@contextmanager
def about(**values: object) -> Iterator[None]:
    """Says what the lines are about that this thread or task logs in the block, whoever writes them."""
    token = _about.set({**_about.get(), **values})
    try:
        yield
    finally:
        _about.reset(token)


def setup(service: str, level: int = logging.INFO) -> None:
    """Sends this process's logs to stderr; `service` names the process in its first line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if os.environ.get(FORMAT_VARIABLE) == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tunevane").setLevel(level)
    get(service).debug("logging is set up")


def get(name: str) -> logging.Logger:
    """Returns the logger `tunevane.<name>`."""
    return logging.getLogger(f"tunevane.{name}")
