"""What the evaluator shows of itself while it works: the queue, what runs, how requests end, what took how long."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest
from prometheus_client import CollectorRegistry

from support.scrapes import read, value
from tunevane import errors
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import EvaluationFailedError, ResourceExhaustedError
from tunevane_evaluator.lane import Lane, Report
from tunevane_evaluator.observe import OUTCOMES, EvaluatorMetrics, outcome_of
from tunevane_evaluator.stop import Stop

NONE: frozenset[str] = frozenset()


class Work:
    """An evaluation that ends when it is told."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.release = threading.Event()

    def __call__(self, stop: Stop, report: Report) -> wire.EvaluationResult:
        self.loop.call_soon_threadsafe(self.begun.set)
        assert self.release.wait(10)
        stop.check()
        return wire.EvaluationResult(
            query_count=7, document_count=30, computed=True, seconds={"encode": 2.0, "search": 0.5}
        )


async def wait(lane: Lane, key: str, work: Work) -> None:
    async with aclosing(lane.submit(key, "runs/one", NONE, work)) as updates:
        async for _ in updates:
            pass


async def test_the_queue_is_seen_while_an_evaluation_runs() -> None:
    registry = CollectorRegistry()
    lane = Lane(3, 3, EvaluatorMetrics(registry))
    first, second = Work(), Work()
    try:
        tasks = [asyncio.create_task(wait(lane, "a", first))]
        await first.begun.wait()
        tasks += [asyncio.create_task(wait(lane, key, second)) for key in ("b", "c", "b")]
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhaustedError):
            await wait(lane, "d", second)
        samples = read(registry)
        assert value(samples, "tunevane_evaluation_queue_limit") == 3
        assert value(samples, "tunevane_evaluation_queue_depth") == 2
        assert value(samples, "tunevane_evaluation_running") == 1
        second.release.set()
        first.release.set()
        await asyncio.gather(*tasks)
    finally:
        await asyncio.to_thread(lane.close)
    samples = read(registry)
    assert value(samples, "tunevane_evaluation_queue_depth") == 0
    assert value(samples, "tunevane_evaluation_running") == 0
    assert value(samples, "tunevane_evaluation_documents_total") == 90
    assert value(samples, "tunevane_evaluation_queries_total") == 21
    assert value(samples, "tunevane_evaluation_seconds_count", step="encode") == 3
    assert value(samples, "tunevane_evaluation_seconds_sum", step="encode") == 6.0
    assert value(samples, "tunevane_evaluation_seconds_count", step="queue") == 3
    assert value(samples, "tunevane_evaluation_seconds_count", step="total") == 3
    assert value(samples, "tunevane_evaluation_seconds_sum", step="total") > 0


async def test_a_failed_evaluation_leaves_neither_queue_nor_seconds() -> None:
    registry = CollectorRegistry()
    lane = Lane(3, 3, EvaluatorMetrics(registry))

    def fail(stop: Stop, report: Report) -> wire.EvaluationResult:
        raise EvaluationFailedError("it cannot succeed")

    try:
        with pytest.raises(EvaluationFailedError):
            async for _ in lane.submit("a", "runs/one", NONE, fail):
                pass
    finally:
        await asyncio.to_thread(lane.close)
    samples = read(registry)
    assert value(samples, "tunevane_evaluation_queue_depth") == 0
    assert value(samples, "tunevane_evaluation_running") == 0
    assert value(samples, "tunevane_evaluation_seconds_count", step="total") == 0


def test_every_label_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    EvaluatorMetrics(registry)
    samples = read(registry)
    shown = {dict(labels)["outcome"]: number for labels, number in samples["tunevane_evaluations_total"].items()}
    assert shown == dict.fromkeys(OUTCOMES, 0.0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.CancelledError("gone"), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (errors.ResourceExhaustedError("full"), "refused"),
        (errors.InvalidRequestError([errors.Problem("plan", "is wrong")]), "invalid"),
        (errors.BlobsMissingError("gone"), "missing"),
        (errors.UnavailableError("away"), "unavailable"),
        (errors.EvaluationFailedError("no"), "failed"),
        (ValueError("a fault of ours"), "failed"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_request_is_counted_by_what_it_raised(error: BaseException, outcome: str) -> None:
    registry = CollectorRegistry()
    observed = EvaluatorMetrics(registry)
    with pytest.raises(type(error)), observed.asked():
        raise error
    assert outcome_of(error) == outcome
    assert value(read(registry), "tunevane_evaluations_total", outcome=outcome) == 1
