"""From items to vectors: encoded and checked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import EvaluationFailedError
from tunevane.nn.encode import Floats
from tunevane.nn.inputs import Pictures
from tunevane_evaluator.work import Work

NAMED = 5
"""Items that a complaint names."""


def is_euclidean(plan: evaluation_pb2.EvaluationPlan) -> bool:
    """Tells whether vectors are compared by their distance rather than by their angle."""
    return plan.distance in (evaluation_pb2.DISTANCE_EUCLIDEAN, evaluation_pb2.DISTANCE_SQEUCLIDEAN)


def stream(
    work: Work, data: Dataset, step: wire.EvaluationStep.ValueType, what: str
) -> Iterator[tuple[list[int], Floats]]:
    """Encodes a set batch by batch, longest texts first.

    Args:
        work: The evaluation.
        data: What to encode.
        step: Under which progress is reported.
        what: `query` or `document`, for sentences.

    Yields:
        Positions of b items, and their vectors [b, d] as the model gives them.

    Raises:
        EvaluationFailedError: An embedding is not finite; names the items.
        InvalidRequestError: An item has nothing that the model reads, or its image does not decode; names the item.

    """
    plan = work.plan
    given, read = _given(work, data, what)
    total, done, zeros = len(data.items), 0, 0
    started = time.perf_counter()
    batches = work.encoder.stream(
        given,
        **read,
        bf16=plan.precision == evaluation_pb2.PRECISION_BF16,
        batch_size=plan.batch_size or None,
        check=work.check,
    )
    work.progress(step, 0, total)
    while True:
        with work.step("encode"):
            batch = next(batches, None)
        if batch is None:
            break
        positions, vectors = batch
        _demand_finite(data, positions, vectors, what)
        zeros += int((~vectors.any(axis=1)).sum())
        yield positions, vectors
        done += len(positions)
        work.progress(step, done, total, started)
    if zeros and not is_euclidean(plan):
        work.warnings.append(
            f"a zero vector came out for {zeros} of {total} items ({what}); it is equally far from everything"
        )


def _given(work: Work, data: Dataset, what: str) -> tuple[Sequence[str | Item], dict[str, Any]]:
    """Returns what the encoder is to encode, and how it is to read it."""
    plan = work.plan
    files, tower = plan.query_data, plan.model
    if what == "document":
        files = plan.index_data if plan.HasField("index_data") else plan.query_data
        tower = plan.index_model or plan.model
    if not tower and all(item.image is None for item in data.items):
        return data.texts, {}
    return data.items, {"pictures": Pictures(files, work.store), "tower": tower}


def _demand_finite(data: Dataset, positions: list[int], vectors: Floats, what: str) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if finite.all():
        return
    bad = sorted(positions[row] for row in np.flatnonzero(~finite))
    names = ", ".join(f"'{data.items[position].id}'" for position in bad[:NAMED])
    raise EvaluationFailedError(
        f"the model gives embeddings that are not finite (NaN or infinite) for the {what} {names}"
        + (f" and {len(bad) - NAMED} more" if len(bad) > NAMED else "")
        + "; training has diverged, so lower the learning rate"
    )


def all_of(work: Work, data: Dataset, step: wire.EvaluationStep.ValueType, what: str) -> Floats:
    """Encodes a set as a whole, [n, d] in order; see `stream`."""
    vectors: Floats = np.zeros((0, 0), np.float32)
    for positions, some in stream(work, data, step, what):
        if not len(vectors):
            vectors = np.empty((len(data.items), some.shape[1]), np.float32)
        vectors[positions] = some
    return vectors
