"""Starts workers, hears them live, and replaces those that are lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress

from prometheus_client import CollectorRegistry

from tunevane import log
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import event_pb2
from tunevane.errors import TunevaneError
from tunevane_trainer import history
from tunevane_trainer.collection import collect
from tunevane_trainer.launch.port import Assignment, Launcher, Worker
from tunevane_trainer.observe import TrainerMetrics
from tunevane_trainer.runs import Runs, log_line, now

_log = log.get("supervisor")

DEFAULT_RESTARTS = 3
TICK_SECONDS = 0.5
CANCEL_GRACE_SECONDS = 30.0
STOP_GRACE_SECONDS = 10.0
PREEMPTED = 75
"""Exit code of a worker that was asked to stop: it is started again, and that is no failure."""

_ACTIVE = (run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_CANCELLING, run_pb2.RUN_STATE_PENDING)


class Supervisor:
    """Keeps one worker alive per run, as many runs at a time as allowed."""

    def __init__(
        self,
        runs: Runs,
        launcher: Launcher,
        *,
        evaluator: str,
        max_workers: int,
        lease_seconds: float,
        grace_seconds: float,
        metrics: TrainerMetrics | None = None,
    ) -> None:
        self._metrics = TrainerMetrics(CollectorRegistry()) if metrics is None else metrics
        self._runs = runs
        self._launcher = launcher
        self._evaluator = evaluator
        self._max_workers = max_workers
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._address = ""
        self._workers: dict[str, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: dict[str, float] = {}
        self._cancelled_at: dict[str, float] = {}
        self._stopping = False

    def workers(self) -> int:
        """Counts the workers that live."""
        return len(self._workers)

    def heard_from(self, name: str) -> None:
        """Notes a worker's sign of life."""
        self._heard[name] = time.monotonic()

    async def run(self, address: str) -> None:
        """Supervises until cancelled.

        Args:
            address: Where workers reach this service.

        """
        self._address = address
        swept = time.monotonic()
        while True:
            try:
                await self._look()
                if time.monotonic() - swept > 60:
                    swept = time.monotonic()
                    await self._runs.call(self._collect)
            except TunevaneError as error:
                _log.warning("supervision failed and goes on: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runs.changed.wait(), TICK_SECONDS)
            self._runs.changed.clear()

    async def _look(self) -> None:
        active, _ = await self._runs.call(lambda: self._runs.store.page(10_000, None, _ACTIVE))
        for run in reversed(active):
            if run.state == run_pb2.RUN_STATE_CANCELLING:
                await self._cancel(run)
            elif run.name in self._workers:
                await self._check_lease(run)
            elif await self._may_still_be_there(run):
                continue
            elif len(self._workers) < self._max_workers:
                await self._start(run)

    async def _may_still_be_there(self, run: run_pb2.Run) -> bool:
        """Tells whether a worker that was started before this service was restarted may still be at work."""
        lease = await self._runs.call(lambda: self._runs.store.lease(run.name))
        return bool(lease.token) and not self._is_overdue(run.name)

    def _is_overdue(self, name: str) -> bool:
        return time.monotonic() - self._heard.setdefault(name, time.monotonic()) > self._lease_seconds

    async def _check_lease(self, run: run_pb2.Run) -> None:
        if self._is_overdue(run.name):
            _log.warning("worker is silent run=%s seconds=%.0f", run.name, self._lease_seconds)
            worker = self._workers[run.name]
            self._spawn(worker.stop(0.0))
            self.heard_from(run.name)

    async def _cancel(self, run: run_pb2.Run) -> None:
        since = self._cancelled_at.setdefault(run.name, time.monotonic())
        worker = self._workers.get(run.name)
        waited = time.monotonic() - since
        if worker is None and (not run.HasField("start_time") or waited > CANCEL_GRACE_SECONDS):
            await self._end(run.name, cancelled=True)
        elif worker is not None and waited > CANCEL_GRACE_SECONDS:
            self._spawn(worker.stop(0.0))

    async def _start(self, run: run_pb2.Run) -> None:
        token = secrets.token_hex(16)
        lease = await self._runs.call(lambda: self._runs.store.grant(run.name, token))
        allowed = run.spec.max_restarts if run.spec.HasField("max_restarts") else DEFAULT_RESTARTS
        if lease.lost > allowed:
            times = "once" if lease.lost == 1 else f"{lease.lost} times"
            await self._end(run.name, failure=f"the worker was lost {times}; max_restarts allows {allowed}")
            return
        self.heard_from(run.name)
        assignment = Assignment(run.name, token, self._address, self._evaluator)
        worker = await self._launcher.launch(assignment)
        self._workers[run.name] = worker
        self._metrics.starts.inc()
        if run.HasField("start_time") or lease.lost:
            self._metrics.restarts.inc()
        _log.info("worker started run=%s lost=%d", run.name, lease.lost)
        self._spawn(self._follow(run.name, worker))

    async def _follow(self, name: str, worker: Worker) -> None:
        code = await worker.wait()
        self._workers.pop(name, None)
        if self._stopping:
            await self._runs.call(lambda: self._runs.store.release(name))
            return
        with suppress(TunevaneError):
            run = await self._runs.call(lambda: self._runs.store.get(name))
            _log.info("worker ended run=%s exit_code=%d", name, code)
            if history.has_ended(run):
                return
            if run.state == run_pb2.RUN_STATE_CANCELLING:
                await self._end(name, cancelled=True)
                return
            if code == PREEMPTED:
                await self._runs.call(lambda: self._runs.store.release(name))
            else:
                self._metrics.lost.inc()
                told = f"signal {-code}" if code < 0 else f"exit code {code}"
                line = f"The worker was lost ({told}); a new one goes on from the last commit"
                await self._runs.append(name, [log_line(line, event_pb2.SEVERITY_WARNING)])
            # Not heard from for longer than any lease: the next look starts a new one.
            self._heard[name] = time.monotonic() - self._lease_seconds - 1
            self._runs.changed.set()

    async def _end(self, name: str, *, failure: str = "", cancelled: bool = False) -> None:
        await self._runs.call(lambda: self._runs.store.grant(name, secrets.token_hex(16)))
        ended = event_pb2.RunEnded(failure_reason=failure, cancelled=cancelled)
        await self._runs.append(name, [event_pb2.Event(event_time=now(), run_ended=ended)])

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _collect(self) -> None:
        collect(self._runs.blobs, self._runs.store.pinned(), time.time() - self._grace_seconds)

    async def close(self) -> None:
        """Asks the workers to stop; their runs go on when the service is started again."""
        self._stopping = True
        await asyncio.gather(*(worker.stop(STOP_GRACE_SECONDS) for worker in list(self._workers.values())))
        await asyncio.gather(*self._tasks, return_exceptions=True)
