"""Moves a run's files between the worker's store and the trainer service, and commits events that name files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from tunevane import log
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.errors import StorageFullError, TunevaneError, UnavailableError
from tunevane.rpc.blob_client import BlobClient
from tunevane.storage.blobs import BlobStore
from tunevane_trainer import history
from tunevane_trainer.training.loop import Stopped
from tunevane_trainer.training.reporter import GIVE_UP_SECONDS, Reporter

_log = log.get("files")


class Files:
    """The files of one run. Threads may share it."""

    def __init__(
        self,
        store: BlobStore,
        blobs: BlobClient,
        reporter: Reporter,
        preempted: threading.Event,
        stopping: Callable[[], bool],
    ) -> None:
        """Args: our store, the trainer service's blobs, where events go, and what ends a wait."""
        self.store = store
        self._blobs = blobs
        self._reporter = reporter
        self._preempted = preempted
        self._stopping = stopping

    def fetch(self, refs: Iterable[blob_pb2.BlobRef]) -> None:
        """Downloads what our store lacks.

        Raises:
            UnavailableError: The trainer service stayed away for as long as events would wait.
            Stopped: The run or the process was asked to stop.

        """
        wanted = list(refs)
        self._patiently(lambda: self._blobs.fetch(wanted, self.store))

    def push(self, refs: Iterable[blob_pb2.BlobRef]) -> None:
        """Uploads what the trainer service lacks, also once its disk has room again; raises as `fetch` does."""
        wanted = list(refs)
        self._patiently(lambda: self._blobs.push(self.store, wanted), StorageFullError)

    def commit(self, events: Sequence[event_pb2.Event]) -> None:
        """Uploads the files that events name, then appends the events: all or none."""
        self.push(ref for event in events for ref in history.event_refs(event))
        self._reporter.commit(events)

    def log(self, text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> None:
        """Queues a line for people."""
        self._reporter.log(text, severity)

    def _patiently(self, move: Callable[[], object], *passing: type[TunevaneError]) -> None:
        borne: tuple[type[TunevaneError], ...] = (UnavailableError, *passing)
        until = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                move()
            except borne as error:
                if time.monotonic() > until:
                    raise
                _log.warning("the trainer cannot take part now, repeating: %s", error)
                if self._preempted.wait(1.0) or self._stopping():
                    raise Stopped from None
            else:
                return
