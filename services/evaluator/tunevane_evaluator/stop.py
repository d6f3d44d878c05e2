"""How work in the device's thread hears that it is no longer wanted."""

from __future__ import annotations

import threading

from tunevane.errors import CancelledError


class Stop:
    """Set by the event loop, asked by the device's thread between batches."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def set(self) -> None:
        """Asks the work to stop."""
        self._asked.set()

    def check(self) -> None:
        """Returns while the work is wanted.

        Raises:
            CancelledError: It is not any more.

        """
        if self._asked.is_set():
            raise CancelledError("nobody waits for this evaluation any more")

    def pause(self, seconds: float) -> None:
        """Waits, but no longer than the work is wanted.

        Raises:
            CancelledError: It is not any more.

        """
        self._asked.wait(seconds)
        self.check()
