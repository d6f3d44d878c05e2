"""Mirrors every run's events to the tracker, which training never waits for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import json_format, struct_pb2
from prometheus_client import CollectorRegistry

from tunevane import log
from tunevane.api.tracker.v1 import tracker_service_pb2, tracker_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.callback.components import options_of
from tunevane.core import bundles
from tunevane.errors import (
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    NotFoundError,
    SequenceGapError,
    StaleWriterError,
    StorageFullError,
    TunevaneError,
    UnavailableError,
)
from tunevane_trainer.observe import TrainerMetrics
from tunevane_trainer.publisher import Publisher
from tunevane_trainer.runs import Runs, log_line

_log = log.get("mirror")

BATCH = 1000
"""Events of a call: the wait for the tracker's disk is shared by so many."""

MAX_CALL_BYTES = 1 << 20
"""Bytes of a call, unless a single event has more."""

MAX_EVENT_BYTES = (1 << 20) - (1 << 10)
"""Bytes of an event that a tracker takes; a larger one is replaced by a line that says so."""

SLICE = 20_000
"""Events of a run that are mirrored before the next run's turn comes."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
TIMEOUT_SECONDS = 20.0

_AWAY = (UnavailableError, DeadlineExceededError, CancelledError, StorageFullError)
"""What no run can be mirrored through; anything else concerns the run at hand."""


@dataclass
class _Held:
    """A run that the tracker refused."""

    until: float
    pause_seconds: float


def describe(run: run_pb2.Run) -> struct_pb2.Struct:
    """States a run's configuration for the tracker."""
    spec = run.spec
    config = {
        "name": run.name,
        "model": spec.model.name,
        "model_options": options_of(spec.model),
        "loss": spec.loss.name or "auto",
        "optimizer": spec.optimizer.name or "adamw",
        "optimizer_options": options_of(spec.optimizer),
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        "description": spec.description,
        "dataset": bundles.digest(spec.train_data)[:12],
        "callbacks": [{"name": each.name, "options": options_of(each)} for each in spec.callbacks],
    }
    return json_format.ParseDict(config, struct_pb2.Struct())


class Mirror:
    """Publishes from where the tracker acknowledged last."""

    def __init__(
        self,
        runs: Runs,
        channel: grpc.Channel,
        metrics: TrainerMetrics | None = None,
        *,
        publisher: Publisher,
        monotonic: Callable[[], float] = time.monotonic,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._metrics = TrainerMetrics(CollectorRegistry()) if metrics is None else metrics
        self._runs = runs
        self._stub = tracker_service_pb2_grpc.TrackerServiceStub(channel)
        self._publisher = publisher
        self._monotonic = monotonic
        self._first_pause_seconds = first_pause_seconds
        self._held: dict[str, _Held] = {}
        self._fenced: set[str] = set()

    async def run(self) -> None:
        """Mirrors until cancelled."""
        pause = self._first_pause_seconds
        while True:
            self._runs.appended.clear()
            try:
                more = await self._round()
            except _AWAY as error:
                self._metrics.mirror_errors.inc()
                _log.warning("tracker: %s", error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            pause = self._first_pause_seconds
            if not more:
                try:
                    await asyncio.wait_for(self._runs.appended.wait(), self._patience())
                except TimeoutError:
                    continue

    def _patience(self) -> float:
        """Seconds until a run that was refused has its next turn, if nothing happens before; at most 5."""
        now = self._monotonic()
        return min([5.0, *(max(held.until - now, 0.01) for held in self._held.values())])

    async def _round(self) -> bool:
        """Gives every run with news a turn, and tells whether one has more."""
        more = False
        for name, mirrored in await self._runs.call(self._runs.store.unmirrored):
            held = self._held.get(name)
            if name in self._fenced or (held is not None and held.until > self._monotonic()):
                continue
            try:
                more = await self._publish(name, mirrored) or more
                self._held.pop(name, None)
            except NotFoundError:
                # A run may be deleted while it is mirrored.
                self._held.pop(name, None)
            except StaleWriterError as error:
                self._fenced.add(name)
                _log.error("mirroring stopped: %s", error)
            except _AWAY:
                raise
            except TunevaneError as error:
                self._metrics.mirror_errors.inc()
                pause = (
                    self._first_pause_seconds if held is None else min(held.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
                )
                self._held[name] = _Held(self._monotonic() + pause, pause)
                if held is None:
                    _log.warning("tracker refused %s: %s", name, error)
        return more

    async def _publish(self, name: str, mirrored: int) -> bool:
        """Publishes a slice of a run's events, and tells whether there are more."""
        run = await self._runs.call(lambda: self._runs.store.get(name))
        begin = saved = mirrored
        stop = False
        while mirrored - begin < SLICE:
            events = await self._runs.call(lambda: self._runs.store.events(name, mirrored, BATCH))  # noqa: B023
            if not events:
                break
            request = tracker_service_pb2.PublishEventsRequest(
                run=name, uid=run.uid, events=fitting(events), writer_epoch=self._publisher.epoch
            )
            if mirrored == 0:
                request.config.CopyFrom(describe(run))
            try:
                response = await asyncio.to_thread(self._stub.PublishEvents, request, timeout=TIMEOUT_SECONDS)
            except SequenceGapError as error:
                begin = mirrored = max(int(error.details.get("expected_sequence", "1")) - 1, 0)
                continue
            except AlreadyExistsError as error:
                acked = int(error.details.get("acked_sequence", "0"))
                if acked <= mirrored:
                    raise
                _log.warning("tracker: %s", error)
                mirrored = acked
                continue
            if await self._lost(response.journal_id):
                return True
            mirrored = response.acked_sequence
            stop = stop or response.cancel_requested
            if response.notices:
                # In one step, so that a notice is in the log exactly once, whatever dies when.
                await self._runs.append(name, [log_line(notice) for notice in response.notices], mirrored=mirrored)
                saved = mirrored
        if saved != mirrored:
            # Once per slice: what is published again after a crash vanishes.
            await self._runs.append(name, [], mirrored=mirrored)
        if stop and run.state != run_pb2.RUN_STATE_CANCELLING:
            await self._cancel(name)
        return mirrored - begin >= SLICE

    async def _cancel(self, name: str) -> None:
        """Cancels a run whose Stop button was pressed where it is mirrored; one that has ended stays as it is."""
        run = await self._runs.call(lambda: self._runs.store.request_cancel(name))
        if run.state == run_pb2.RUN_STATE_CANCELLING:
            await self._runs.append(name, [log_line("Cancelling, because Stop was pressed at Weights & Biases")])
            self._runs.changed.set()

    async def _lost(self, journal_id: str) -> bool:
        """Starts from the beginning when the tracker's memory is another one than before."""
        known = self._publisher.journal_id
        if journal_id == known:
            return False
        if known:
            _log.warning("the tracker lost events; every run is published again")
            await self._runs.call(self._runs.store.forget_mirrored)
        self._publisher.remember(journal_id)
        return bool(known)


def fitting(events: Sequence[event_pb2.Event]) -> list[event_pb2.Event]:
    """Takes as many events as fit into a call, at least one; one that fits into none becomes a line about it."""
    taken: list[event_pb2.Event] = []
    total_bytes = 0
    for event in events:
        size_bytes = event.ByteSize()
        if size_bytes > MAX_EVENT_BYTES:
            event, size_bytes = _replaced(event, size_bytes), 0
        total_bytes += size_bytes
        if taken and total_bytes > MAX_CALL_BYTES:
            break
        taken.append(event)
    return taken


def _replaced(event: event_pb2.Event, size_bytes: int) -> event_pb2.Event:
    text = f"An event of {size_bytes} bytes ({event.WhichOneof('kind')}) is too large for the tracker"
    line = event_pb2.LogWritten(severity=event_pb2.SEVERITY_WARNING, text=text)
    return event_pb2.Event(
        sequence=event.sequence, event_time=event.event_time, epoch=event.epoch, step=event.step, log_written=line
    )
