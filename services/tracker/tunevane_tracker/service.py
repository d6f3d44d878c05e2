"""Puts the tracker together and runs it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import grpc

from tunevane.api.tracker.v1 import tracker_service_pb2, tracker_service_pb2_grpc
from tunevane.errors import UnavailableError
from tunevane.rpc import metrics
from tunevane.rpc.server import ServerOptions, serve
from tunevane_tracker.book import MAX_STATES, Book
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.cursors import Cursor, Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.http import HttpServer, Pages
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.lock import hold
from tunevane_tracker.notices import Notices
from tunevane_tracker.page.site import Site
from tunevane_tracker.servicer import TrackerServicer
from tunevane_tracker.sinks.context import SinkContext, build
from tunevane_tracker.sinks.prometheus import (
    SHOWN_AFTER_END_SECONDS,
    PrometheusSink,
    RunCollector,
    SinkCollector,
    TrackerMetrics,
)
from tunevane_tracker.sinks.wandb.sink import WandbSink
from tunevane_tracker.welcome import Welcome

SERVICE = tracker_service_pb2.DESCRIPTOR.services_by_name["TrackerService"].full_name


async def run(
    config: TrackerConfig,
    *,
    on_started: Callable[[int, int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Runs the tracker until SIGTERM, SIGINT or `stopping`.

    Args:
        config: Its settings.
        on_started: Called with the gRPC port and the HTTP port once both answer.
        stopping: Set it to end the service.

    Raises:
        ConfigurationError: A port is in use, or the state folder is damaged or used by another tracker.

    """
    stop = asyncio.Event() if stopping is None else stopping
    loop = asyncio.get_running_loop()
    with hold(config.state_dir):
        tracker = Tracker(config, lambda: _set(loop, stop))
        try:
            await serve(
                "tracker",
                ServerOptions(host=config.host, port=config.port, drain_seconds=config.drain_seconds),
                tracker.register,
                interceptors=[tracker.calls],
                on_started=lambda port: on_started(port, tracker.http.port) if on_started else None,
                stopping=stop,
            )
        finally:
            await asyncio.to_thread(tracker.close)


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


class Tracker:
    """The parts of the tracker, running, without a gRPC server."""

    def __init__(self, config: TrackerConfig, on_broken: Callable[[], None]) -> None:
        """Opens the journal, serves pages and takes deliveries up again; `on_broken` is called when the disk fails."""
        self._broken = False
        self._on_broken = on_broken
        self.journal = Journal(
            config.state_dir / "tracker.sqlite", clock=time.time, max_runs=config.max_runs, on_broken=self._fail
        )
        self._book = Book(self.journal)
        self.journal.on_mended = self._book.forget
        self._cursors = Cursors(self.journal)
        self._notices = Notices(self.journal)
        self._registry = metrics.registry("tracker")
        self.calls = metrics.CallMetrics(self._registry)
        self._metrics = TrackerMetrics(self._registry)
        # Forgotten with the process: a sink that starts again learns it again.
        self._stopped: set[str] = set()
        context = SinkContext(
            config, os.environ, self._book, self._cursors, self._notices, stop=lambda run: self._stopped.add(run.uid)
        )
        try:
            sinks = build(context, self._offer)
        except BaseException:
            self.journal.close()
            raise
        (wandb,) = (sink for sink in sinks if isinstance(sink, WandbSink))
        self._wandb = wandb
        # Pages may be asked for before the deliveries run.
        self.deliveries: list[Delivery] = []
        site = Site(self.journal, self._book, self._mirrors, time.time)
        public_host = urlsplit(config.public_url or "").hostname
        pages = Pages(self._registry, lambda: not self._broken, site, config.http_token, self._damage, public_host)
        try:
            self.http = HttpServer(config.http_host, config.http_port, pages)
        except BaseException:
            self.journal.close()
            raise
        self.deliveries = [Delivery(sink, self.journal, self._cursors) for sink in sinks]
        host = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
        self._welcome = Welcome(
            self._notices, wandb, (config.public_url or f"http://{host}:{self.http.port}").rstrip("/")
        )
        self._registry.register(RunCollector(self.journal, self._book, time.time))
        self._registry.register(SinkCollector(self.deliveries, self._cursors, lambda: wandb.mode))
        self._catch_up()

    def register(self, server: grpc.aio.Server) -> Iterable[str]:
        """Adds the service to a gRPC server and returns its full name."""
        servicer = TrackerServicer(
            self.journal, self._notices, self._cursors, self.deliveries, self._metrics, self._welcome, self._stopped
        )
        tracker_service_pb2_grpc.add_TrackerServiceServicer_to_server(servicer, server)
        return [SERVICE]

    def close(self) -> None:
        """Ends the parts; what is not delivered is delivered after the next start."""
        self.http.close()
        for delivery in self.deliveries:
            delivery.close()
        self.journal.close()

    def _catch_up(self) -> None:
        for each in self.journal.live(time.time() - SHOWN_AFTER_END_SECONDS, MAX_STATES):
            self._offer(PrometheusSink.name, each)
        for delivery in self.deliveries:
            if delivery.sink.name != PrometheusSink.name:
                for each in self._cursors.behind(delivery.sink.name, delivery.sink.marker):
                    delivery.offer(each)
        self._wandb.start()

    def _offer(self, sink: str, run: TrackedRun) -> None:
        for delivery in self.deliveries:
            if delivery.sink.name == sink:
                delivery.offer(run)

    def _mirrors(self, run: TrackedRun) -> dict[str, Cursor]:
        return {
            delivery.sink.name: self._cursors.shown(delivery.sink.name, run)
            for delivery in self.deliveries
            if delivery.sink.wants(run)
        }

    def _damage(self) -> str:
        try:
            return self.journal.damage()
        except UnavailableError as error:
            return error.message

    def _fail(self) -> None:
        self._broken = True
        self._on_broken()
