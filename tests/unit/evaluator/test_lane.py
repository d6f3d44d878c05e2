"""One evaluation at a time; equal requests join; nobody waiting means no work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import CancelledError, EvaluationFailedError, ResourceExhaustedError, UnavailableError
from tunevane_evaluator.lane import Compute, Lane, Report
from tunevane_evaluator.stop import Stop

NONE: frozenset[str] = frozenset()


@dataclass
class Task:
    """Work that begins, waits, and ends when told."""

    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __call__(self, stop: Stop, report: Report) -> wire.EvaluationResult:
        self.calls += 1
        report(wire.EvaluationProgress(step=wire.EVALUATION_STEP_INDEXING, done=self.calls))
        self.begun.set()
        while not self.release.wait(0.01):
            try:
                stop.check()
            except CancelledError:
                self.stopped.set()
                raise
        return wire.EvaluationResult(query_count=7, computed=True)

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 10)


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    made = Lane(queue_limit=3, run_limit=3)
    yield made
    await asyncio.to_thread(made.close)


async def last(lane: Lane, key: str, task: Compute, run: str = "runs/one") -> wire.EvaluationResult:
    result = [update async for update in lane.submit(key, run, NONE, task)][-1]
    assert isinstance(result, wire.EvaluationResult)
    return result


async def test_equal_requests_share_one_computation(lane: Lane) -> None:
    first, second = Task(), Task()
    waiting = [asyncio.create_task(last(lane, "a", first))]
    await first.has_begun()
    waiting += [asyncio.create_task(last(lane, "a", second)) for _ in range(3)]
    await asyncio.sleep(0)
    first.release.set()
    results = await asyncio.gather(*waiting)
    assert [result.computed for result in results] == [True, False, False, False]
    assert {result.query_count for result in results} == {7}
    assert (first.calls, second.calls) == (1, 0)


async def test_different_requests_run_one_after_the_other(lane: Lane) -> None:
    first, second = Task(), Task()
    one = asyncio.create_task(last(lane, "a", first))
    await first.has_begun()
    two = asyncio.create_task(last(lane, "b", second))
    await asyncio.sleep(0)
    assert not second.begun.is_set()
    first.release.set()
    await one
    await second.has_begun()
    second.release.set()
    assert (await two).computed


async def test_a_joined_computation_goes_on_while_somebody_waits(lane: Lane) -> None:
    task = Task()
    first = asyncio.create_task(last(lane, "a", task))
    await task.has_begun()
    second = asyncio.create_task(last(lane, "a", task))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not task.stopped.is_set()
    task.release.set()
    assert (await second).query_count == 7


async def test_a_computation_stops_when_the_last_one_leaves(lane: Lane) -> None:
    task, again = Task(), Task()
    only = asyncio.create_task(last(lane, "a", task))
    await task.has_begun()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert await asyncio.to_thread(task.stopped.wait, 10)
    again.release.set()
    assert (await last(lane, "a", again)).computed
    assert again.calls == 1


async def test_what_waits_and_is_left_is_never_begun(lane: Lane) -> None:
    first, left, third = Task(), Task(), Task()
    one = asyncio.create_task(last(lane, "a", first))
    await first.has_begun()
    two = asyncio.create_task(last(lane, "b", left))
    three = asyncio.create_task(last(lane, "c", third))
    await asyncio.sleep(0)
    two.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two
    for task in (first, third):
        task.release.set()
    await asyncio.gather(one, three)
    assert left.calls == 0


async def test_a_full_queue_refuses_with_a_hint(lane: Lane) -> None:
    tasks = {key: Task() for key in "abc"}
    waiting = [asyncio.create_task(last(lane, key, task)) for key, task in tasks.items()]
    await tasks["a"].has_begun()
    with pytest.raises(
        ResourceExhaustedError, match=r"3 evaluations .*wait already; try again in \d+ seconds"
    ) as caught:
        await last(lane, "d", Task())
    assert float(caught.value.details["retry_after_seconds"]) > 0
    # Joining takes no place.
    waiting.append(asyncio.create_task(last(lane, "b", Task())))
    for task in tasks.values():
        task.release.set()
    await asyncio.gather(*waiting)
    free = Task()
    free.release.set()
    assert (await last(lane, "d", free)).computed


async def test_a_failure_reaches_everybody_and_is_not_kept(lane: Lane) -> None:
    begun, release = threading.Event(), threading.Event()

    def fail(stop: Stop, report: Report) -> wire.EvaluationResult:
        begun.set()
        release.wait(10)
        raise EvaluationFailedError("no labels")

    async def ask() -> None:
        async for _ in lane.submit("a", "runs/one", NONE, fail):
            pass

    waiting = [asyncio.create_task(ask())]
    assert await asyncio.to_thread(begun.wait, 10)
    waiting.append(asyncio.create_task(ask()))
    await asyncio.sleep(0)
    release.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EvaluationFailedError] * 2
    good = Task()
    good.release.set()
    assert (await last(lane, "a", good)).computed


async def test_progress_within_a_step_is_told_rarely_and_a_new_step_at_once(lane: Lane) -> None:
    def work(stop: Stop, report: Report) -> wire.EvaluationResult:
        for step in (wire.EVALUATION_STEP_INDEXING, wire.EVALUATION_STEP_SEARCHING):
            for done in range(2000):
                report(wire.EvaluationProgress(step=step, done=done))
        return wire.EvaluationResult()

    told = [update async for update in lane.submit("a", "runs/one", NONE, work)]
    progress = [update for update in told if isinstance(update, wire.EvaluationProgress)]
    assert 1 <= len(progress) < 20
    assert progress[0].step == wire.EVALUATION_STEP_QUEUED


async def test_what_waiting_work_reads_is_in_use(lane: Lane) -> None:
    task = Task()

    async def ask(key: str) -> None:
        async for _ in lane.submit(key, "runs/one", frozenset({f"blob of {key}"}), task):
            pass

    waiting = [asyncio.create_task(ask(key)) for key in "ab"]
    await task.has_begun()
    assert lane.in_use() == {"blob of a", "blob of b"}
    task.release.set()
    await asyncio.gather(*waiting)
    assert lane.in_use() == frozenset()


async def test_closing_stops_what_is_under_way() -> None:
    lane, task = Lane(1, 1), Task()
    waiting = asyncio.create_task(last(lane, "a", task))
    await task.has_begun()
    await asyncio.to_thread(lane.close)
    assert task.stopped.is_set()
    with pytest.raises(CancelledError):
        await waiting


async def test_one_run_may_not_fill_the_queue() -> None:
    lane, tasks = Lane(queue_limit=10, run_limit=2), [Task() for _ in range(3)]
    waiting = [asyncio.create_task(last(lane, key, task)) for key, task in zip("ab", tasks)]
    await tasks[0].has_begun()
    with pytest.raises(ResourceExhaustedError, match="2 evaluations of this run wait already; try again in") as caught:
        await last(lane, "c", Task())
    assert int(caught.value.details["retry_after_seconds"]) >= 1
    waiting.append(asyncio.create_task(last(lane, "d", tasks[2], run="runs/other")))
    for task in tasks:
        task.release.set()
    await asyncio.gather(*waiting)
    await asyncio.to_thread(lane.close)


async def test_runs_take_turns_however_many_one_of_them_asks_for() -> None:
    lane, done, gate = Lane(queue_limit=100, run_limit=50), [], Task()

    def work(key: str) -> Compute:
        def compute(stop: Stop, report: Report) -> wire.EvaluationResult:
            done.append(key)
            return wire.EvaluationResult()

        return compute

    waiting = [asyncio.create_task(last(lane, "first", gate, run="runs/flood"))]
    await gate.has_begun()
    flood = [f"flood {number}" for number in range(40)]
    waiting += [asyncio.create_task(last(lane, name, work(name), run="runs/flood")) for name in flood]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(last(lane, name, work(name), run=f"runs/{name}")) for name in "bcde"]
    await asyncio.sleep(0)
    gate.release.set()
    await asyncio.gather(*waiting)
    # Those who asked after the flood were served before it went on.
    assert done[:4] == ["b", "c", "d", "e"]
    assert done[4:] == flood
    await asyncio.to_thread(lane.close)


async def test_what_ends_with_the_service_is_to_be_asked_again(lane: Lane) -> None:
    running, queued = Task(), Task()
    waiting = [asyncio.create_task(last(lane, "a", running))]
    await running.has_begun()
    waiting.append(asyncio.create_task(last(lane, "b", queued)))
    await asyncio.sleep(0)
    lane.end()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 2
    with pytest.raises(UnavailableError, match="about to stop; ask again"):
        await last(lane, "c", Task())
    assert await asyncio.to_thread(running.stopped.wait, 10)
    assert queued.calls == 0
