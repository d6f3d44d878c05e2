"""Waits for something that another thread or process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], timeout_seconds: float = 25.0) -> None:
    """Waits until it has happened."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.05)
