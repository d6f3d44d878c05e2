"""What Prometheus sees of the evaluator: how many wait, how long each step takes, and what was remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import (
    BlobsMissingError,
    CancelledError,
    InvalidRequestError,
    ResourceExhaustedError,
    UnavailableError,
)

STEPS = ("queue", "load", "read", "encode", "store", "search", "score", "verify", "total")
"""Steps that are always shown; `total` is the whole evaluation once it has begun, `queue` the wait before it."""

STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper ends of the buckets: from a remembered model to a million documents."""

Cache = Literal["result", "model", "weights", "features"]
CACHES: tuple[Cache, ...] = ("result", "model", "weights", "features")

OUTCOMES = ("computed", "joined", "remembered", "refused", "invalid", "missing", "failed", "unavailable", "cancelled")
"""How a request ends: the first three with a result."""


@dataclass
class Asked:
    """A request under way."""

    outcome: str = "cancelled"
    """How it ended; stays as it is when the caller leaves."""


class EvaluatorMetrics:
    """The evaluator's families; threads may share them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers them, with every label that will occur, so that rates begin at zero."""
        self.seconds = Histogram(
            "tunevane_evaluation_seconds",
            "Wall time of a step of an evaluation.",
            ["step"],
            buckets=STEP_SECONDS,
            registry=registry,
        )
        self.queue_depth = Gauge("tunevane_evaluation_queue_depth", "Evaluations that wait.", registry=registry)
        self.queue_limit = Gauge(
            "tunevane_evaluation_queue_limit", "Evaluations that may be under way or wait.", registry=registry
        )
        self.running = Gauge("tunevane_evaluation_running", "Evaluations under way.", registry=registry)
        self.documents = Counter("tunevane_evaluation_documents", "Documents searched.", registry=registry)
        self.queries = Counter("tunevane_evaluation_queries", "Queries measured.", registry=registry)
        self.hits = Counter(
            "tunevane_evaluation_cache_hits", "Look-ups that found something.", ["cache"], registry=registry
        )
        self.misses = Counter(
            "tunevane_evaluation_cache_misses", "Look-ups that found nothing.", ["cache"], registry=registry
        )
        self.outcomes = Counter("tunevane_evaluations", "Requests, by how they ended.", ["outcome"], registry=registry)
        for step in STEPS:
            self.seconds.labels(step)
        for cache in CACHES:
            self.hits.labels(cache)
            self.misses.labels(cache)
        for outcome in OUTCOMES:
            self.outcomes.labels(outcome)

    def looked_up(self, cache: Cache, *, hit: bool) -> None:
        """Counts a look-up."""
        (self.hits if hit else self.misses).labels(cache).inc()

    def took(self, step: str, seconds: float) -> None:
        """Notes how long a step took."""
        self.seconds.labels(step).observe(seconds)

    def computed(self, result: wire.EvaluationResult) -> None:
        """Notes an evaluation that was computed."""
        for step, seconds in result.seconds.items():
            self.took(step, seconds)
        self.documents.inc(result.document_count)
        self.queries.inc(result.query_count)

    @contextmanager
    def asked(self) -> Iterator[Asked]:
        """Counts a request by how it ends; whoever answers it says how, an exception says it by itself."""
        asked = Asked()
        try:
            yield asked
        except BaseException as error:
            asked.outcome = outcome_of(error)
            raise
        finally:
            self.outcomes.labels(asked.outcome).inc()


def outcome_of(error: BaseException) -> str:
    """Names how a request ended that raised."""
    if isinstance(error, (CancelledError, asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    if isinstance(error, ResourceExhaustedError):
        return "refused"
    if isinstance(error, InvalidRequestError):
        return "invalid"
    if isinstance(error, BlobsMissingError):
        return "missing"
    return "unavailable" if isinstance(error, UnavailableError) else "failed"
