"""Runs that callback objects of this process listen to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from tunevane import log, plugins
from tunevane.callback.base import Callback, Decides, Measures, Notice, Refines
from tunevane.client.connection import Connection
from tunevane.client.run import Run
from tunevane.errors import InvalidRequestError, Problem, TunevaneError
from tunevane.local.notices import Notices

_log = log.get("callbacks")


def is_listener(callback: Callback, field: str) -> bool:
    """Tells whether a callback lives in this process, because no worker can build it.

    Args:
        callback: What was passed.
        field: Where, for messages.

    Raises:
        InvalidRequestError: It does what only a callback in the worker can do.

    """
    name = callback.name
    if name in plugins.names("callbacks") and plugins.load("callbacks", name) is type(callback):
        return False
    if isinstance(callback, (Measures, Decides, Refines)):
        kind = type(callback).__name__
        raise InvalidRequestError(
            [
                Problem(
                    field,
                    f"{kind} measures, decides or refines, which happens in the worker: register the class as an entry"
                    " point of the group tunevane.callbacks, installed where the services run; an object that only"
                    " listens can be passed as it is",
                )
            ]
        )
    return True


class ListenedRun(Run):
    """A run whose moments objects of this process hear of, for as long as the process lives."""

    def __init__(self, connection: Connection, name: str, listeners: Sequence[Callback]) -> None:
        """Follows the run in a thread of its own.

        Args:
            connection: The trainer service.
            name: Short name of the run.
            listeners: Called in the order of their keys, one notice after the other.

        """
        super().__init__(connection, name)
        self._listeners = sorted(listeners, key=lambda callback: callback.key)
        self._follower = threading.Thread(target=self._follow, name=f"listen-{self.name}", daemon=True)
        self._follower.start()

    def _follow(self) -> None:
        notices = Notices()
        try:
            for event in self.events(follow=True):
                for notice in notices.of(event):
                    self._tell(notice)
        except TunevaneError as error:
            _log.warning("the callbacks of this process hear no more of run '%s': %s", self.name, error)

    def _tell(self, notice: Notice) -> None:
        for callback in list(self._listeners):
            try:
                callback.notify(notice)
            except Exception:
                # What an object does is none of the run's business; it hears no more.
                _log.exception("%s failed at %s and is not called again", type(callback).__name__, notice)
                self._listeners.remove(callback)

    def wait(self) -> str:
        """Waits for the end, and until every object has heard of it; returns the final status."""
        status = super().wait()
        self._follower.join()
        return status

    def watch(self) -> str:
        """Shows the run until its end, waits until every object has heard of it, and returns the final status."""
        status = super().watch()
        self._follower.join()
        return status

    def stream_logs(self) -> Iterator[str]:
        """Yields every line of the log once, until the run has ended and every object has heard of it."""
        yield from super().stream_logs()
        self._follower.join()
