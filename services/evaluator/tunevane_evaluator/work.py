"""What one evaluation has at hand, and what it notes on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.nn.encode import Encoder
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator.searches import OpenIndex


@dataclass
class Work:
    """What one evaluation has at hand."""

    request: wire.EvaluateRequest
    """What was asked for, checked."""

    encoder: Encoder
    """The model with the weights under evaluation."""

    open_index: OpenIndex
    """Opens fresh indexes."""

    store: BlobStore
    """Where data sets are read and results are put."""

    report: Callable[[wire.EvaluationProgress], None]
    """Hears how far it is."""

    check: Callable[[], None]
    """Raises when the evaluation is to stop."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by step."""

    warnings: list[str] = field(default_factory=list)
    """What looks wrong."""

    @property
    def plan(self) -> evaluation_pb2.EvaluationPlan:
        """What to measure."""
        return self.request.plan

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def progress(
        self, step: wire.EvaluationStep.ValueType, done: int, total: int, started: float | None = None
    ) -> None:
        """Reports progress.

        Args:
            step: What is being done.
            done: Items done in this step.
            total: Items to do in this step.
            started: `time.perf_counter()` at the step's start, from which rate and time left follow; None: neither.

        """
        rate = 0.0 if started is None else done / max(time.perf_counter() - started, 1e-9)
        left = (total - done) / rate if rate > 0 else 0.0
        self.report(
            wire.EvaluationProgress(step=step, done=done, total=total, items_per_second=rate, seconds_left=left)
        )
