"""One evaluation, from a model with its weights to metrics: the domain, without grpc."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2, metric_pb2
from tunevane.core import metrics as scoring
from tunevane.core.dataset import Dataset
from tunevane.errors import EvaluationFailedError
from tunevane.nn.encode import Floats
from tunevane.storage import datasets
from tunevane_evaluator import plan as plans
from tunevane_evaluator import vectors
from tunevane_evaluator.examples import Examples
from tunevane_evaluator.index.port import Ids
from tunevane_evaluator.oracle import Oracle
from tunevane_evaluator.work import Work

Positions = npt.NDArray[np.int64]

FLUSH_ROWS = 1024
"""Documents handed to the index at once."""

QUERIES_PER_BLOCK = 512
"""Queries searched and scored at once: bounds the time to a cancellation."""

FIRST_BLOCK = 16
"""Queries in the first block, which shows how long ties are."""

RESULTS_PER_BLOCK = 4_000_000
"""Results held at once: bounds memory where ties are as long as the index."""


def run(work: Work) -> wire.EvaluationResult:
    """Evaluates; the index is dropped whatever happens.

    Raises:
        EvaluationFailedError: It cannot succeed, however often it is tried.
        UnavailableError: The index went away; trying again may succeed.

    """
    plan = work.plan
    with work.step("read"):
        queries, documents = _data(work)
        own = _own(queries, documents) if plan.exclude_self else None
        judgements = _judgements(queries, documents, own)
    limit = plans.limit_of(plan)
    depth = scoring.required_depth(list(plan.metrics) or None, limit)
    # One more than needed where the query's own document is among the results and does not count.
    wanted = min(depth + (own is not None), len(documents.items))
    examples = Examples(queries, documents, plan.example_count, plan.seed, limit)
    try:
        asked = vectors.all_of(work, queries, wire.EVALUATION_STEP_SEARCHING, "query")
        oracle = Oracle(asked, wanted, plan.seed, euclidean=vectors.is_euclidean(plan))
        _index(work, documents, asked.shape[1], oracle)
        parts = []
        for first, ids, scores in _search(work, asked, wanted, oracle):
            with work.step("score"):
                part = judgements.rows(first, first + len(ids))
                if own is not None:
                    ids, scores = _without_own(ids, scores, own[first : first + len(ids)])
                examples.add(first, ids, scores, part)
                parts.append(_score(plan, scoring.Ranking(ids, scores), part))
    finally:
        work.index.drop()
    work.progress(wire.EVALUATION_STEP_SCORING, len(queries.items), len(queries.items))
    with work.step("score"):
        scored = scoring.combine(parts)
        return _result(work, queries, documents, scored, examples)


def _data(work: Work) -> tuple[Dataset, Dataset]:
    """Returns queries, sampled as the plan says, and documents."""
    plan = work.plan
    queries = datasets.load(plan.query_data, work.store)
    documents = datasets.load(plan.index_data, work.store) if plan.HasField("index_data") else queries
    size = plan.query_sample_size
    if 0 < size < len(queries.items):
        chosen = sorted(random.Random(plan.seed).sample(range(len(queries.items)), size))
        queries = Dataset("items", tuple(queries.items[position] for position in chosen))
    return queries, documents


def _own(queries: Dataset, documents: Dataset) -> Positions:
    """Returns the position of each query's own document, -1 where the index has none of its id."""
    position_of = {item.id: position for position, item in enumerate(documents.items)}
    return np.array([position_of.get(item.id, -1) for item in queries.items], np.int64)


def _judgements(queries: Dataset, documents: Dataset, own: Positions | None) -> scoring.Judgements:
    if not any(item.relevant for item in queries.items):
        if all(item.label is None for item in queries.items):
            raise EvaluationFailedError(
                "the queries have neither labels nor judgements, so nothing tells what is relevant;"
                " give a label column, or 'relevant' in each record"
            )
        return scoring.Judgements.from_labels(queries.labels, documents.labels, own)
    position_of = {item.id: position for position, item in enumerate(documents.items)}
    grades = [
        {position_of[name]: grade for name, grade in item.relevant.items() if name in position_of}
        for item in queries.items
    ]
    return scoring.Judgements.from_qrels(grades, len(documents.items), own)


def _index(work: Work, documents: Dataset, dimensions: int, oracle: Oracle) -> None:
    """Encodes the documents and stores them, a block while the next is encoded."""
    work.index.create(dimensions)
    waiting: list[tuple[list[int], Floats]] = []

    def flush() -> None:
        ids = np.concatenate([np.array(positions, np.int64) for positions, _ in waiting])
        block = np.concatenate([some for _, some in waiting])
        waiting.clear()
        with work.step("store"):
            work.index.add(ids, block)
        with work.step("verify"):
            oracle.add(ids, block)

    for batch in vectors.stream(work, documents, wire.EVALUATION_STEP_INDEXING, "document"):
        waiting.append(batch)
        if sum(len(positions) for positions, _ in waiting) >= FLUSH_ROWS:
            flush()
    if waiting:
        flush()
    with work.step("store"):
        work.index.seal(len(documents.items))


def _search(work: Work, asked: Floats, wanted: int, oracle: Oracle) -> Iterator[tuple[int, Ids, Floats]]:
    """Yields the number of a block's first query, and the positions and scores of its results."""
    started = time.perf_counter()
    first, size = 0, min(FIRST_BLOCK, QUERIES_PER_BLOCK)
    while first < len(asked):
        work.check()
        work.progress(wire.EVALUATION_STEP_SEARCHING, first, len(asked), started)
        with work.step("search"):
            ids, scores = work.index.search(asked[first : first + size], wanted)
        with work.step("verify"):
            oracle.check(first, ids, scores)
        yield first, ids, scores
        first += size
        size = max(min(QUERIES_PER_BLOCK, RESULTS_PER_BLOCK // ids.shape[1]), 1)


def _without_own(ids: Ids, scores: Floats, own: Positions) -> tuple[Ids, Floats]:
    """Moves each query's own document behind its row, as padding."""
    is_own = (ids == own[:, None]) & (own >= 0)[:, None]
    order = np.argsort(is_own | (ids < 0), axis=1, kind="stable")
    kept = np.take_along_axis(np.where(is_own, -1, ids), order, axis=1)
    return kept, np.take_along_axis(np.where(is_own, np.float32(-np.inf), scores), order, axis=1)


def _score(
    plan: evaluation_pb2.EvaluationPlan, ranking: scoring.Ranking, judgements: scoring.Judgements
) -> scoring.Evaluation:
    by_position = plan.tie_policy == evaluation_pb2.TIE_POLICY_POSITION
    ties: Literal["expected", "position"] = "position" if by_position else "expected"
    return scoring.evaluate(ranking, judgements, list(plan.metrics) or None, limit=plans.limit_of(plan), ties=ties)


def _result(
    work: Work, queries: Dataset, documents: Dataset, scored: scoring.Evaluation, examples: Examples
) -> wire.EvaluationResult:
    if scored.queries_without_relevant:
        work.warnings.append(
            f"{scored.queries_without_relevant} of {len(queries.items)} queries have no relevant document in the index"
            " and score 0"
        )
    if scored.collapsed_fraction > 0.01:
        work.warnings.append(
            f"for {scored.collapsed_fraction:.0%} of the queries all results have the same score;"
            " has the model collapsed?"
        )
    archive = io.BytesIO()
    np.savez(archive, **scored.per_query)  # type: ignore[arg-type]  # numpy's own signature takes arrays by name
    result = wire.EvaluationResult(
        metrics=metric_pb2.MetricSet(values=scored.values),
        computed=True,
        per_query=work.store.put_bytes(archive.getvalue()),
        query_count=len(queries.items),
        document_count=len(documents.items),
        queries_without_relevant=scored.queries_without_relevant,
        collapsed_fraction=scored.collapsed_fraction,
        warnings=work.warnings,
        seconds=work.seconds,
    )
    if work.plan.example_count:
        result.examples.CopyFrom(work.store.put_bytes(examples.document()))
    return result
