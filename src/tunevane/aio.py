"""The front door for event loops: the same calls, awaited.

    run = await tunevane.aio.fit(train_data="train.csv", callbacks=[...])
    async for line in run.stream_logs():
        print(line)

Calls run in threads of their own, so nothing here holds up the loop. Cancelling the task that waits ends the waiting
and leaves the run alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from tunevane import evaluation, session
from tunevane.api.type.v1 import event_pb2
from tunevane.client.run import Run
from tunevane.core.history import DecisionRecord, History

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["AsyncRun", "delete_run", "evaluate", "fit", "get_run", "list_runs", "push_dataset"]


async def _stream(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Yields what a blocking iterator yields; leaving early ends the iterator at its next item."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[bool, object]] = asyncio.Queue()
    over = threading.Event()

    def tell(more: bool, item: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(items.put_nowait, (more, item))

    def pump() -> None:
        try:
            for item in make():
                if over.is_set():
                    return
                tell(True, item)
        except BaseException as error:
            tell(False, error)
        else:
            tell(False, None)

    thread = threading.Thread(target=pump, name="stream", daemon=True)
    thread.start()
    try:
        while True:
            more, item = await items.get()
            if more:
                yield item  # type: ignore[misc]  # what `make` yields
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        over.set()


class AsyncRun:
    """A run whose questions are awaited; see `tunevane.Run` for what each returns and raises."""

    def __init__(self, run: Run) -> None:
        """Wraps a run."""
        self.run = run
        """The run, for blocking use."""

    def __repr__(self) -> str:
        return f"<Async{repr(self.run)[1:]}"

    @property
    def name(self) -> str:
        """Short name."""
        return self.run.name

    async def status(self) -> str:
        """Returns `PENDING`, `RUNNING`, `CANCELLING`, `SUCCEEDED`, `FAILED` or `CANCELLED`."""
        return await asyncio.to_thread(self.run.status)

    async def wait(self) -> str:
        """Waits for the end and returns the final status."""
        async for _ in self.events(follow=True):
            pass
        return await self.status()

    def events(self, *, follow: bool = False) -> AsyncIterator[event_pb2.Event]:
        """Yields the run's events so far, or until its end with `follow`."""
        return _stream(lambda: self.run.events(follow=follow))

    async def logs(self) -> str:
        """Returns the log so far."""
        return await asyncio.to_thread(self.run.logs)

    def stream_logs(self) -> AsyncIterator[str]:
        """Yields every line of the log once, in order, until the run ends."""
        return _stream(self.run.stream_logs)

    async def history(self) -> History:
        """Returns metrics of every epoch and all decisions, so far."""
        return await asyncio.to_thread(self.run.history)

    async def decisions(self) -> list[DecisionRecord]:
        """Lists what the callbacks concluded, in order."""
        return await asyncio.to_thread(self.run.decisions)

    async def metrics(self, *, live: bool = False) -> dict[str, dict[str, float]]:
        """Returns `{"before": {...}, "after": {...}}`."""
        return await asyncio.to_thread(partial(self.run.metrics, live=live))

    async def example_results(self) -> dict[str, dict[str, object]]:
        """Returns example results before and after."""
        return await asyncio.to_thread(self.run.example_results)

    async def save_artifact(self, directory: str | Path) -> Path:
        """Downloads the model into `directory/<run name>` and returns that folder."""
        return await asyncio.to_thread(self.run.save_artifact, directory)

    async def cancel(self) -> None:
        """Asks the run to stop after the batch in hand."""
        await asyncio.to_thread(self.run.cancel)

    async def delete(self) -> None:
        """Deletes the run with its history."""
        await asyncio.to_thread(self.run.delete)


def _awaited(call: Callable[P, T]) -> Callable[P, Coroutine[None, None, T]]:
    """Makes a blocking call awaitable."""

    @wraps(call)
    async def awaited(*args: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(call, *args, **options)

    return awaited


def _with_run(call: Callable[P, Run]) -> Callable[P, Coroutine[None, None, AsyncRun]]:
    """Makes a blocking call that returns a run awaitable."""

    @wraps(call)
    async def awaited(*args: P.args, **options: P.kwargs) -> AsyncRun:
        return AsyncRun(await asyncio.to_thread(call, *args, **options))

    return awaited


fit = _with_run(session.fit)
get_run = _with_run(session.get_run)
delete_run = _awaited(session.delete_run)
push_dataset = _awaited(session.push_dataset)
evaluate = _awaited(evaluation.evaluate)


async def list_runs(limit: int = 50, *, target: str | None = None) -> list[AsyncRun]:
    """Lists runs, newest first."""
    return [AsyncRun(run) for run in await asyncio.to_thread(session.list_runs, limit, target=target)]
