"""One evaluation, from weights to metrics: the domain, without grpc."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import evaluation_pb2, metric_pb2
from tunevane.core import metrics as scoring
from tunevane.core.dataset import Dataset
from tunevane.errors import EvaluationFailedError
from tunevane.nn.encode import Encoder, Floats
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore
from tunevane_evaluator import plan as plans
from tunevane_evaluator.index.port import VectorIndex
from tunevane_evaluator.oracle import Oracle

Report = Callable[[wire.EvaluationProgress], None]
FLUSH_ROWS = 1024


@dataclass
class Work:
    """What one evaluation has at hand."""

    request: wire.EvaluateRequest
    """What was asked for, checked."""

    encoder: Encoder
    """The model with the weights under evaluation."""

    index: VectorIndex
    """A fresh index."""

    store: BlobStore
    """Where data sets are read and results are put."""

    report: Report
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


def run(work: Work) -> wire.EvaluationResult:
    """Evaluates.

    Raises:
        EvaluationFailedError: It cannot succeed, however often it is tried.
        UnavailableError: The index went away; trying again may succeed.

    """
    queries, documents, own = _data(work)
    depth = scoring.required_depth(list(work.plan.metrics) or None, plans.limit_of(work.plan))
    # One more than needed where the query's own document is among the results and does not count.
    limit = min(depth + (own is not None), len(documents.items))
    try:
        vectors = _encode_queries(work, queries)
        oracle = Oracle(vectors, limit, work.plan.seed, euclidean=is_euclidean(work.plan))
        _index(work, documents, vectors.shape[1], oracle)
        work.check()
        with work.step("search"):
            ids, scores = work.index.search(vectors, limit)
        with work.step("verify"):
            oracle.check(scores)
    finally:
        work.index.drop()
    with work.step("score"):
        work.report(_progress(wire.EVALUATION_STEP_SCORING, 0, len(queries.items), 0))
        if own is not None:
            ids, scores = _without_own(ids, scores, own)
        return _score(work, queries, documents, own, scoring.Ranking(ids, scores))


def _data(work: Work) -> tuple[Dataset, Dataset, np.ndarray[tuple[int], np.dtype[np.int64]] | None]:
    """Returns queries, documents, and each query's own document, -1 where it has none."""
    plan = work.plan
    queries = datasets.load(plan.query_data, work.store)
    documents = datasets.load(plan.index_data, work.store) if plan.HasField("index_data") else queries
    size = plan.query_sample_size
    if 0 < size < len(queries.items):
        chosen = sorted(random.Random(plan.seed).sample(range(len(queries.items)), size))
        queries = Dataset("items", tuple(queries.items[position] for position in chosen))
    if not plan.exclude_self:
        return queries, documents, None
    position_of = {item.id: position for position, item in enumerate(documents.items)}
    own = [position_of.get(item.id, -1) for item in queries.items]
    return queries, documents, np.array(own, np.int64)


def is_euclidean(plan: evaluation_pb2.EvaluationPlan) -> bool:
    """Tells whether vectors are compared by their distance rather than by their angle."""
    return plan.distance in (evaluation_pb2.DISTANCE_EUCLIDEAN, evaluation_pb2.DISTANCE_SQEUCLIDEAN)


def _vectors(
    work: Work, data: Dataset, step: wire.EvaluationStep.ValueType, what: str
) -> Iterator[tuple[list[int], Floats]]:
    """Yields positions and vectors ready to be compared; counts zero vectors and refuses non-finite ones."""
    plan = work.plan
    total, done, zeros = len(data.items), 0, 0
    started = time.perf_counter()
    stream = work.encoder.stream(
        data.texts,
        bf16=plan.precision == evaluation_pb2.PRECISION_BF16,
        batch_size=plan.batch_size or None,
        check=work.check,
    )
    while True:
        with work.step("encode"):
            batch = next(stream, None)
        if batch is None:
            break
        positions, vectors = batch
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            names = [data.items[positions[row]].id for row in np.flatnonzero(~finite)[:5]]
            raise EvaluationFailedError(
                f"the model gives embeddings that are not finite, for {what} {', '.join(names)}; "
                "training has diverged, so lower the learning rate"
            )
        if not is_euclidean(plan):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            zeros += int((lengths == 0).sum())
            vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        yield positions, vectors
        done += len(positions)
        work.report(_progress(step, done, total, done / max(time.perf_counter() - started, 1e-9)))
    if zeros:
        work.warnings.append(f"{zeros} of {total} {what}s have a zero vector, which is equally far from everything")


def _progress(step: wire.EvaluationStep.ValueType, done: int, total: int, rate: float) -> wire.EvaluationProgress:
    return wire.EvaluationProgress(step=step, done=done, total=total, items_per_second=rate)


def _encode_queries(work: Work, queries: Dataset) -> Floats:
    rows: list[tuple[list[int], Floats]] = list(_vectors(work, queries, wire.EVALUATION_STEP_SEARCHING, "query"))
    vectors: Floats = np.empty((len(queries.items), rows[0][1].shape[1]), np.float32)
    for positions, some in rows:
        vectors[positions] = some
    return vectors


def _index(work: Work, documents: Dataset, dimensions: int, oracle: Oracle) -> None:
    """Encodes the documents and stores them, a block while the next is encoded."""
    work.index.create(dimensions)
    waiting: list[tuple[list[int], Floats]] = []

    def flush() -> None:
        ids = np.concatenate([np.array(positions, np.int64) for positions, _ in waiting])
        block = np.concatenate([vectors for _, vectors in waiting])
        waiting.clear()
        with work.step("store"):
            work.index.add(ids, block)
        with work.step("verify"):
            oracle.add(block)

    for batch in _vectors(work, documents, wire.EVALUATION_STEP_INDEXING, "document"):
        waiting.append(batch)
        if sum(len(positions) for positions, _ in waiting) >= FLUSH_ROWS:
            flush()
    if waiting:
        flush()
    with work.step("store"):
        work.index.seal(len(documents.items))


def _without_own(
    ids: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    scores: Floats,
    own: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], Floats]:
    """Moves each query's own document behind its row, as padding."""
    is_own = (ids == own[:, None]) & (own >= 0)[:, None]
    order = np.argsort(is_own | (ids < 0), axis=1, kind="stable")
    kept = np.take_along_axis(np.where(is_own, -1, ids), order, axis=1)
    return kept, np.take_along_axis(np.where(is_own, -np.inf, scores).astype(np.float32), order, axis=1)


def _score(
    work: Work,
    queries: Dataset,
    documents: Dataset,
    own: np.ndarray[tuple[int], np.dtype[np.int64]] | None,
    ranking: scoring.Ranking,
) -> wire.EvaluationResult:
    plan = work.plan
    judged = _judgements(queries, documents, own)
    names = list(plan.metrics) or None
    ties: Literal["expected", "position"] = (
        "position" if plan.tie_policy == evaluation_pb2.TIE_POLICY_POSITION else "expected"
    )
    scored = scoring.evaluate(ranking, judged, names, limit=plans.limit_of(plan), ties=ties)
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
    if plan.example_count:
        examples = _examples(work, queries, documents, judged, ranking)
        result.examples.CopyFrom(work.store.put_bytes(json.dumps(examples, ensure_ascii=False).encode()))
    return result


def _judgements(
    queries: Dataset, documents: Dataset, own: np.ndarray[tuple[int], np.dtype[np.int64]] | None
) -> scoring.Judgements:
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


def _examples(
    work: Work,
    queries: Dataset,
    documents: Dataset,
    judged: scoring.Judgements,
    ranking: scoring.Ranking,
) -> dict[str, object]:
    """Shows the results of some queries; the same queries for every checkpoint."""
    count = min(work.plan.example_count, len(queries.items))
    chosen: Sequence[int] = sorted(random.Random(work.plan.seed + 1).sample(range(len(queries.items)), count))
    relevant, _ = judged.find(ranking.ids)
    shown = []
    for number in chosen:
        item = queries.items[number]
        results = [
            {
                "id": documents.items[position].id,
                "text": documents.items[position].text,
                "score": round(float(score), 6),
                "relevant": bool(hit),
            }
            for position, score, hit in zip(ranking.ids[number], ranking.scores[number], relevant[number], strict=True)
            if position >= 0
        ]
        shown.append({"id": item.id, "text": item.text, "results": results[: plans.limit_of(work.plan)]})
    return {"queries": shown}
