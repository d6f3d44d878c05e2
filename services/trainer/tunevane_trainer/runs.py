"""The runs of this service: the store behind an async door, and who waits for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.callback import EvaluationCallback, TrainingCheckpoint
from tunevane.callback.components import options_of
from tunevane.core import bundles
from tunevane.errors import BlobsMissingError
from tunevane.storage.blobs import BlobStore
from tunevane_trainer import history
from tunevane_trainer.store import RunStore

T = TypeVar("T")

PAGE = 500


def now() -> Timestamp:
    """Returns the time."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def log_line(text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> event_pb2.Event:
    """Makes the event of a line for people."""
    return event_pb2.Event(event_time=now(), log_written=event_pb2.LogWritten(severity=severity, text=text))


class Runs:
    """One writer thread for the store, and a bell that rings when a run has news."""

    def __init__(self, store: RunStore, blobs: BlobStore) -> None:
        self.store = store
        self.blobs = blobs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._bells: dict[str, asyncio.Event] = {}
        self.appended = asyncio.Event()
        """Set whenever any run has new events."""
        self.changed = asyncio.Event()
        """Set whenever a run was created, cancelled or ended."""

    async def call(self, function: Callable[[], T]) -> T:
        """Runs something with the store in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def ask(self, function: Callable[[], T]) -> T:
        """Runs something with the store in its thread, for other threads than the event loop's."""
        return self._thread.submit(function).result()

    async def append(
        self,
        name: str,
        events: Sequence[event_pb2.Event],
        *,
        token: str | None = None,
        worker_sequence: int = 0,
        mirrored: int | None = None,
    ) -> tuple[run_pb2.Run, int]:
        """Appends events, all or none, and rings.

        Raises:
            BlobsMissingError: An event names files that are not here.

        """

        def work() -> tuple[run_pb2.Run, int]:
            missing = self.blobs.missing(ref for event in events for ref in history.event_refs(event))
            if missing:
                raise BlobsMissingError(
                    f"{len(missing)} files that the events name have not been uploaded", {"count": str(len(missing))}
                )
            keep = kept_epochs(self.store.get(name).spec)
            return self.store.append(
                name,
                events,
                token=token,
                worker_sequence=worker_sequence,
                keep_epochs=keep,
                mirrored=mirrored,
            )

        run, expected = await self.call(work)
        if events:
            self.ring(name)
            if history.has_ended(run):
                self.changed.set()
        return run, expected

    def ring(self, name: str) -> None:
        """Wakes everybody who waits for news of a run."""
        self.appended.set()
        bell = self._bells.pop(name, None)
        if bell is not None:
            bell.set()

    async def watch(self, name: str, after: int, *, follow: bool) -> AsyncIterator[list[event_pb2.Event]]:
        """Yields events after a sequence number, then new ones, until the run's last."""
        while True:
            # The bell is hung up before looking, so that nothing can happen in between unheard.
            bell = self._bells.setdefault(name, asyncio.Event())
            events = await self.call(lambda: self.store.events(name, after, PAGE))  # noqa: B023  # called at once
            if events:
                after = events[-1].sequence
                yield events
                continue
            run = await self.call(lambda: self.store.get(name))
            if not follow or (history.has_ended(run) and after >= run.last_sequence):
                return
            await bell.wait()

    def close(self) -> None:
        """Closes the store."""
        self._thread.shutdown(wait=True)
        self.store.close()


def kept_epochs(spec: run_pb2.RunSpec) -> int:
    """Returns how many checkpoints are kept, counted from the last: those asked for, and those not decided yet."""
    kept = 1
    for callback in spec.callbacks:
        options = options_of(callback)
        if callback.name == TrainingCheckpoint.name:
            kept = max(kept, _whole(options, "last_k_epochs"))
        elif callback.name == EvaluationCallback.name and options.get("asynchronous", False):
            kept = max(kept, _whole(options, "max_lag") + 1)
    return kept


def _whole(options: Mapping[str, object], name: str) -> int:
    return int(float(str(options.get(name, 1))))


def spec_refs_missing(blobs: BlobStore, spec: run_pb2.RunSpec) -> None:
    """Refuses a specification whose files are not here.

    Raises:
        BlobsMissingError: Tells how many.

    """
    refs = [ref for bundle in history.spec_bundles(spec) for ref in bundles.refs(bundle)]
    missing = blobs.missing(refs)
    if missing:
        raise BlobsMissingError(
            f"{len(missing)} files of the run's data have not been uploaded to this server",
            {"count": str(len(missing))},
        )
    blobs.touch(refs)
