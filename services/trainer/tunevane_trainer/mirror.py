"""Mirrors every run's events to the tracker, which training never waits for."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import grpc
from google.protobuf import json_format, struct_pb2
from prometheus_client import CollectorRegistry

from tunevane import log
from tunevane.api.tracker.v1 import tracker_service_pb2, tracker_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2
from tunevane.callback.components import options_of
from tunevane.core import bundles
from tunevane.errors import NotFoundError, SequenceGapError, TunevaneError
from tunevane_trainer.observe import TrainerMetrics
from tunevane_trainer.runs import Runs, log_line

_log = log.get("mirror")

BATCH = 200
LONGEST_PAUSE_SECONDS = 30.0
TIMEOUT_SECONDS = 20.0


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

    def __init__(self, runs: Runs, channel: grpc.Channel, metrics: TrainerMetrics | None = None) -> None:
        self._metrics = TrainerMetrics(CollectorRegistry()) if metrics is None else metrics
        self._runs = runs
        self._stub = tracker_service_pb2_grpc.TrackerServiceStub(channel)

    async def run(self) -> None:
        """Mirrors until cancelled."""
        pause = 0.5
        while True:
            self._runs.appended.clear()
            try:
                for name, mirrored in await self._runs.call(self._runs.store.unmirrored):
                    # A run may be deleted while it is mirrored.
                    with suppress(NotFoundError):
                        await self._publish(name, mirrored)
                pause = 0.5
            except TunevaneError as error:
                self._metrics.mirror_errors.inc()
                _log.warning("tracker: %s", error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runs.appended.wait(), 5.0)

    async def _publish(self, name: str, mirrored: int) -> None:
        run = await self._runs.call(lambda: self._runs.store.get(name))
        while events := await self._runs.call(lambda: self._runs.store.events(name, mirrored, BATCH)):  # noqa: B023  # called at once
            request = tracker_service_pb2.PublishEventsRequest(run=name, uid=run.uid, events=events)
            if mirrored == 0:
                request.config.CopyFrom(describe(run))
            try:
                response = await asyncio.to_thread(self._stub.PublishEvents, request, timeout=TIMEOUT_SECONDS)
            except SequenceGapError as error:
                mirrored = max(int(error.details.get("expected_sequence", "1")) - 1, 0)
                continue
            mirrored = response.acked_sequence
            # In one step, so that a notice is in the log exactly once, whatever dies when.
            lines = [log_line(notice) for notice in response.notices]
            await self._runs.append(name, lines, mirrored=mirrored)
