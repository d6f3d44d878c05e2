"""One device, one evaluation at a time: a bounded queue, in which equal requests join."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import ResourceExhaustedError
from tunevane_evaluator.observe import EvaluatorMetrics
from tunevane_evaluator.stop import Stop

RETRY_SECONDS = 10
REPORT_SECONDS = 0.2
"""Progress within one step is told at most this often."""

Report = Callable[[wire.EvaluationProgress], None]
Compute = Callable[[Stop, Report], wire.EvaluationResult]
"""Does the work, in the device's thread."""


class Job:
    """One evaluation that somebody waits for; belongs to the event loop."""

    def __init__(self, uses: frozenset[str]) -> None:
        self.uses = uses
        self.stop = Stop()
        self.waiters = 0
        self.latest = wire.EvaluationProgress(step=wire.EVALUATION_STEP_QUEUED)
        self.changed = asyncio.Event()
        self.outcome: asyncio.Future[wire.EvaluationResult] = asyncio.get_running_loop().create_future()

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

    def __init__(self, queue_limit: int, metrics: EvaluatorMetrics | None = None) -> None:
        """Args: how many evaluations may be under way or wait, and who is told."""
        self._queue_limit = queue_limit
        self._metrics = EvaluatorMetrics(CollectorRegistry()) if metrics is None else metrics
        self._metrics.queue_limit.set(queue_limit)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(
        self, key: str, uses: frozenset[str], compute: Compute
    ) -> AsyncGenerator[wire.EvaluationProgress | wire.EvaluationResult, None]:
        """Runs an evaluation, or joins the one under way with the same key.

        Args:
            key: Names the evaluation.
            uses: Digests of the blobs that it reads.
            compute: Does it; not called when another caller's is joined.

        Yields:
            Progress, then the result; `computed` tells whether `compute` made it.

        Raises:
            ResourceExhaustedError: Too many evaluations wait already.

        """
        joined = key in self._jobs
        job = self._jobs[key] if joined else self._start(key, uses, compute)
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

    def _start(self, key: str, uses: frozenset[str], compute: Compute) -> Job:
        if len(self._jobs) >= self._queue_limit:
            raise ResourceExhaustedError(
                f"{len(self._jobs)} evaluations wait already; try again in {RETRY_SECONDS} seconds",
                {"retry_after_seconds": str(RETRY_SECONDS)},
            )
        job = self._jobs[key] = Job(uses)
        self._metrics.queue_depth.inc()
        task = asyncio.get_running_loop().create_task(self._run(key, job, compute))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def _remove(self, key: str, job: Job) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]

    async def _run(self, key: str, job: Job, compute: Compute) -> None:
        loop = asyncio.get_running_loop()
        step, told = wire.EVALUATION_STEP_QUEUED, 0.0
        queued = time.perf_counter()

        def report(progress: wire.EvaluationProgress) -> None:
            nonlocal step, told
            now = time.monotonic()
            if progress.step != step or now - told >= REPORT_SECONDS:
                step, told = progress.step, now
                with suppress(RuntimeError):  # the loop has ended, and with it everybody who would listen
                    loop.call_soon_threadsafe(job.tell, progress)

        def work() -> wire.EvaluationResult:
            self._metrics.queue_depth.dec()
            job.stop.check()
            began = time.perf_counter()
            self._metrics.took("queue", began - queued)
            with self._metrics.running.track_inprogress():
                result = compute(job.stop, report)
            self._metrics.took("total", time.perf_counter() - began)
            self._metrics.computed(result)
            return result

        try:
            job.outcome.set_result(await loop.run_in_executor(self._worker, work))
        except BaseException as error:
            # Those who wait raise it; an unexpected one is logged where it meets the caller.
            job.outcome.set_exception(error)
            job.outcome.exception()
            if not isinstance(error, Exception):
                raise
        finally:
            self._remove(key, job)

    def in_use(self) -> frozenset[str]:
        """Lists the digests that evaluations under way or waiting read; any thread may ask."""
        return frozenset().union(*(job.uses for job in list(self._jobs.values())))

    def close(self) -> None:
        """Stops what is under way and waits for it; called from outside the event loop."""
        for job in list(self._jobs.values()):
            job.stop.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
