"""One device, one evaluation at a time: equal requests join, done ones are remembered."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import CancelledError, ConfigurationError, ResourceExhaustedError, TunevaneError

_log = log.get("lane")

RETRY_SECONDS = 10


class Results:
    """Remembered results by key, on disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result BLOB NOT NULL) STRICT")
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}); move it aside, it holds remembered results only"
            ) from error

    def get(self, key: str) -> wire.EvaluationResult | None:
        """Returns a remembered result."""
        row = self._db.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else wire.EvaluationResult.FromString(row[0])

    def put(self, key: str, result: wire.EvaluationResult) -> None:
        """Remembers a result."""
        self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, result.SerializeToString()))

    def forget(self, key: str) -> None:
        """Forgets a result whose files are gone."""
        self._db.execute("DELETE FROM results WHERE key = ?", (key,))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


class Job:
    """One evaluation that somebody waits for."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.waiters = 0
        self.latest = wire.EvaluationProgress(step=wire.EVALUATION_STEP_QUEUED)
        self.changed = asyncio.Event()
        self.outcome: asyncio.Future[wire.EvaluationResult] = asyncio.get_running_loop().create_future()

    def check(self) -> None:
        """Raises when nobody waits any more; called between batches."""
        if self.stopping.is_set():
            raise CancelledError("nobody waits for this evaluation any more")


Compute = Callable[[Job, Callable[[wire.EvaluationProgress], None]], wire.EvaluationResult]


class Lane:
    """The queue in front of the device."""

    def __init__(self, queue_limit: int) -> None:
        self._queue_limit = queue_limit
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._jobs: dict[str, Job] = {}

    async def submit(
        self, key: str, compute: Compute
    ) -> AsyncIterator[wire.EvaluationProgress | wire.EvaluationResult]:
        """Runs an evaluation, or joins the one under way with the same key.

        Yields:
            Progress, then the result.

        Raises:
            ResourceExhaustedError: Too many evaluations wait already.

        """
        job = self._jobs.get(key)
        if job is None:
            if len(self._jobs) >= self._queue_limit:
                raise ResourceExhaustedError(
                    f"{len(self._jobs)} evaluations wait already; try again in {RETRY_SECONDS} seconds",
                    {"retry_after_seconds": str(RETRY_SECONDS)},
                )
            job = self._jobs[key] = Job()
            task = asyncio.ensure_future(self._run(key, job, compute))
            task.add_done_callback(lambda done: done.exception())
        job.waiters += 1
        try:
            while not job.outcome.done():
                yield job.latest
                job.changed.clear()
                news = asyncio.ensure_future(job.changed.wait())
                waiting: set[asyncio.Future[Any]] = {news, job.outcome}
                await asyncio.wait(waiting, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            yield job.outcome.result()
        finally:
            job.waiters -= 1
            if job.waiters == 0 and not job.outcome.done():
                job.stopping.set()
                # Whoever asks for the same from now on starts anew.
                if self._jobs.get(key) is job:
                    del self._jobs[key]

    async def _run(self, key: str, job: Job, compute: Compute) -> None:
        loop = asyncio.get_running_loop()

        def report(progress: wire.EvaluationProgress) -> None:
            def take() -> None:
                job.latest = progress
                job.changed.set()

            with suppress(RuntimeError):
                loop.call_soon_threadsafe(take)

        def work() -> wire.EvaluationResult:
            job.check()
            return compute(job, report)

        try:
            result = await loop.run_in_executor(self._worker, work)
        except BaseException as error:
            if not job.outcome.done():
                job.outcome.set_exception(error)
                job.outcome.exception()
            if not isinstance(error, TunevaneError):
                raise
        else:
            job.outcome.set_result(result)
        finally:
            if self._jobs.get(key) is job:
                del self._jobs[key]

    def close(self) -> None:
        """Stops what is under way and waits for it."""
        for job in self._jobs.values():
            job.stopping.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
