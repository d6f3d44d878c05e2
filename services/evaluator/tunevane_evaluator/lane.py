"""One device, one evaluation at a time: a bounded queue, fair between runs, in which equal requests join."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import ResourceExhaustedError, UnavailableError
from tunevane_evaluator.fair import FairQueue
from tunevane_evaluator.observe import EvaluatorMetrics
from tunevane_evaluator.stop import Stop

TYPICAL_SECONDS = 10.0
"""How long an evaluation is thought to take before one was measured."""

REPORT_SECONDS = 0.2
"""Progress within one step is told at most this often."""

Report = Callable[[wire.EvaluationProgress], None]
Compute = Callable[[Stop, Report], wire.EvaluationResult]
"""Does the work, in the device's thread."""


class Job:
    """One evaluation that somebody waits for; belongs to the event loop."""

    def __init__(self, run: str, uses: frozenset[str], compute: Compute) -> None:
        self.run = run
        self.uses = uses
        self.compute = compute
        self.stop = Stop()
        self.waiters = 0
        self.queued = time.perf_counter()
        self.latest = wire.EvaluationProgress(step=wire.EVALUATION_STEP_QUEUED)
        self.changed = asyncio.Event()
        self.outcome: asyncio.Future[wire.EvaluationResult] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """Ends it; those who wait raise the error, unless they have a result already."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # An unexpected error is logged where it meets the caller, not where nobody waits any more.
            self.outcome.exception()

    def tell(self, progress: wire.EvaluationProgress) -> None:
        """Takes news, and wakes everybody who waits for some."""
        self.latest = progress
        # A new event each time: whoever looks at `latest` first and waits afterwards misses nothing.
        self.changed.set()
        self.changed = asyncio.Event()

    async def news(self) -> None:
        """Waits for progress or the outcome."""
        change = asyncio.ensure_future(self.changed.wait())
        waiting: set[asyncio.Future[Any]] = {change, self.outcome}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()


class Lane:
    """The queue in front of the device; its methods run in the event loop, but for `in_use`."""

    def __init__(self, queue_limit: int, run_limit: int, metrics: EvaluatorMetrics | None = None) -> None:
        """Makes an idle lane.

        Args:
            queue_limit: Evaluations that may be under way or wait.
            run_limit: How many of them may be for one run.
            metrics: Who is told.

        """
        self._queue_limit = queue_limit
        self._run_limit = run_limit
        self._metrics = EvaluatorMetrics(CollectorRegistry()) if metrics is None else metrics
        self._metrics.queue_limit.set(queue_limit)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._jobs: dict[str, Job] = {}
        self._waiting: FairQueue[tuple[str, Job]] = FairQueue()
        self._running: asyncio.Task[None] | None = None
        self._typical = TYPICAL_SECONDS
        self._ending = False

    async def submit(
        self, key: str, run: str, uses: frozenset[str], compute: Compute
    ) -> AsyncGenerator[wire.EvaluationProgress | wire.EvaluationResult, None]:
        """Runs an evaluation, or joins the one under way with the same key.

        Args:
            key: Names the evaluation.
            run: Whom it is for; runs take turns.
            uses: Digests of the blobs that it reads.
            compute: Does it; not called when another caller's is joined.

        Yields:
            Progress, then the result; `computed` tells whether `compute` made it.

        Raises:
            ResourceExhaustedError: Too many evaluations wait already, of this run or of all.
            UnavailableError: The service is about to stop.

        """
        joined = key in self._jobs
        job = self._jobs[key] if joined else self._start(key, run, uses, compute)
        job.waiters += 1
        try:
            told = None
            while not job.outcome.done():
                if job.latest is told:
                    await job.news()
                else:
                    told = job.latest
                    yield told
            result = wire.EvaluationResult()
            result.CopyFrom(job.outcome.result())
            result.computed = not joined
            yield result
        finally:
            job.waiters -= 1
            if job.waiters == 0 and not job.outcome.done():
                job.stop.set()
                # Whoever asks for the same from now on starts anew.
                self._remove(key, job)

    def _start(self, key: str, run: str, uses: frozenset[str], compute: Compute) -> Job:
        if self._ending:
            raise _ending()
        own = sum(job.run == run for job in self._jobs.values())
        if own >= self._run_limit:
            raise self._full(f"{own} evaluations of this run wait already", own)
        if len(self._jobs) >= self._queue_limit:
            raise self._full(f"{len(self._jobs)} evaluations wait already", len(self._jobs) / self._queue_limit)
        job = self._jobs[key] = Job(run, uses, compute)
        self._metrics.queue_depth.inc()
        self._waiting.push(run, (key, job))
        self._next()
        return job

    def _full(self, why: str, turns: float) -> ResourceExhaustedError:
        seconds = max(round(self._typical * turns), 1)
        return ResourceExhaustedError(f"{why}; try again in {seconds} seconds", {"retry_after_seconds": str(seconds)})

    def _remove(self, key: str, job: Job) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if self._waiting.remove(job.run, (key, job)):
            self._metrics.queue_depth.dec()

    def _next(self) -> None:
        """Gives the device to whoever is next, if it is free."""
        if self._running is None and not self._ending and (found := self._waiting.pop()) is not None:
            _, (key, job) = found
            self._metrics.queue_depth.dec()
            self._running = asyncio.get_running_loop().create_task(self._run(key, job))

    async def _run(self, key: str, job: Job) -> None:
        loop = asyncio.get_running_loop()
        step, told = wire.EVALUATION_STEP_QUEUED, 0.0

        def report(progress: wire.EvaluationProgress) -> None:
            nonlocal step, told
            now = time.monotonic()
            if progress.step != step or now - told >= REPORT_SECONDS:
                step, told = progress.step, now
                with suppress(RuntimeError):  # the loop has ended, and with it everybody who would listen
                    loop.call_soon_threadsafe(job.tell, progress)

        def work() -> wire.EvaluationResult:
            job.stop.check()
            self._metrics.took("queue", began - job.queued)
            with self._metrics.running.track_inprogress():
                result = job.compute(job.stop, report)
            self._metrics.took("total", time.perf_counter() - began)
            self._metrics.computed(result)
            return result

        began = time.perf_counter()
        try:
            result = await loop.run_in_executor(self._worker, work)
            if not job.outcome.done():
                job.outcome.set_result(result)
            self._typical += (time.perf_counter() - began - self._typical) / 4
        except BaseException as error:
            job.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._waiting.used(job.run, time.perf_counter() - began)
            self._remove(key, job)
            self._running = None
            self._next()

    def in_use(self) -> frozenset[str]:
        """Lists the digests that evaluations under way or waiting read; any thread may ask."""
        return frozenset().union(*(job.uses for job in list(self._jobs.values())))

    def end(self) -> None:
        """Ends every evaluation at once, with an error that says that asking again is right; called in the loop."""
        self._ending = True
        for key, job in list(self._jobs.items()):
            job.stop.set()
            job.fail(_ending())
            self._remove(key, job)

    def close(self) -> None:
        """Stops what is under way and waits for it; called from outside the event loop."""
        self._ending = True
        for job in list(self._jobs.values()):
            job.stop.set()
        self._worker.shutdown(wait=True, cancel_futures=True)


def _ending() -> UnavailableError:
    return UnavailableError("the evaluator is about to stop; ask again, and the evaluation starts anew")
