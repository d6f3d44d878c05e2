"""One evaluation, from a model with its weights to metrics: the domain, without grpc."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.core import metrics as scoring
from tunevane.core.dataset import Dataset
from tunevane.core.search_settings import parse_all
from tunevane.errors import BlobsMissingError, DataFormatError, DataLossError, EvaluationFailedError
from tunevane.nn.encode import Floats
from tunevane.storage import datasets
from tunevane_evaluator import plan as plans
from tunevane_evaluator import spaces, vectors
from tunevane_evaluator.blas import one_thread
from tunevane_evaluator.examples import Examples
from tunevane_evaluator.index.port import Ids
from tunevane_evaluator.judging import judge, own_positions, without_own
from tunevane_evaluator.oracle import Oracle
from tunevane_evaluator.outcome import Scores, result
from tunevane_evaluator.searches import Searches, Way
from tunevane_evaluator.work import Work

FLUSH_ROWS = 1024
"""Documents handed to the index at once."""

QUERIES_PER_BLOCK = 512
"""Queries searched and scored at once."""

FIRST_BLOCK = 16
"""Queries in the first block, which shows how long ties are."""

RESULTS_PER_BLOCK = 4_000_000
"""Results held at once: bounds memory where ties are as long as the index."""

COMPARED = 100
"""Results that brute force compares at most."""


def run(work: Work) -> wire.EvaluationResult:
    """Evaluates; the indexes are dropped whatever happens.

    Raises:
        EvaluationFailedError: It cannot succeed, however often it is tried.
        BlobsMissingError: A file of the data sets was damaged and has to be uploaded again.
        UnavailableError: The index went away; trying again may succeed.

    """
    with one_thread():
        return _run(work)


def _run(work: Work) -> wire.EvaluationResult:
    plan = work.plan
    with work.step("read"):
        queries, documents = _data(work)
        own = own_positions(queries, documents) if plan.exclude_self else None
        judgements = judge(queries, documents, own)
    limit, names = plans.limit_of(plan), list(plan.metrics) or None
    # One more where the query's own document is among the results and does not count.
    extra = own is not None
    # Some metrics look at as many results as documents are relevant. An approximate search is not asked for those,
    # because its graph would then be searched more thoroughly than in production.
    deep = min(scoring.required_depth(names, limit, judgements) + extra, len(documents.items))
    shallow = min(scoring.required_depth(names, limit) + extra, len(documents.items))
    examples = Examples(queries, documents, plan.example_count, plan.seed, limit)
    asked = vectors.all_of(work, queries, wire.EVALUATION_STEP_SEARCHING, "query")
    space = spaces.of_plan(plan)
    searches = Searches(space, parse_all(plan.search), work.open_index, asked)
    scores = [Scores(way, plan, judgements) for way in searches.ways]
    try:
        compared = min(deep, COMPARED)
        oracle = Oracle(searches.main.collection.asked, compared, plan.seed, euclidean=space.euclidean)
        _index(work, documents, searches, oracle)
        for first, ids, found in _search(work, searches, deep, oracle):
            mine = None if own is None else own[first : first + len(ids)]
            exact = (ids, found) if mine is None else without_own(ids, found, mine)
            with work.step("score"):
                examples.add(first, exact[0], space.shown(exact[1]), judgements.rows(first, first + len(ids)))
                scores[0].add(first, exact, exact)
            for way, kept in zip(searches.others, scores[1:], strict=True):
                depth = deep if way.settings.is_exact else shallow
                other = _ask(work, searches, way, first, len(ids), depth)
                with work.step("score"):
                    kept.add(first, other if mine is None else without_own(*other, mine), exact)
    finally:
        with work.step("store"):
            searches.drop()
    work.progress(wire.EVALUATION_STEP_SCORING, len(queries.items), len(queries.items))
    with work.step("score"):
        return result(work, len(queries.items), len(documents.items), scores, examples)


def _data(work: Work) -> tuple[Dataset, Dataset]:
    """Returns queries, sampled as the plan says, and documents."""
    plan = work.plan
    try:
        queries = datasets.load(plan.query_data, work.store)
        documents = datasets.load(plan.index_data, work.store) if plan.HasField("index_data") else queries
    except DataFormatError as error:
        # The request was right; what it names is not. Whoever skips failed evaluations skips this one too.
        raise EvaluationFailedError(f"a data set cannot be read: {error}", error.details) from error
    except DataLossError as error:
        raise BlobsMissingError(str(error), {"count": "1"}) from error
    for name, data in (("query", queries), ("index", documents)):
        if not data.items:
            raise EvaluationFailedError(f"the {name} set is empty, so there is nothing to measure; give it items")
    size = plan.query_sample_size
    if 0 < size < len(queries.items):
        chosen = sorted(random.Random(plan.seed).sample(range(len(queries.items)), size))
        queries = Dataset("items", tuple(queries.items[position] for position in chosen))
    return queries, documents


def _index(work: Work, documents: Dataset, searches: Searches, oracle: Oracle) -> None:
    """Encodes the documents and stores them, a block while the next is encoded."""
    with work.step("store"):
        searches.create()
    waiting: list[tuple[list[int], Floats]] = []

    def flush() -> None:
        ids = np.concatenate([np.array(positions, np.int64) for positions, _ in waiting])
        block = np.concatenate([some for _, some in waiting])
        waiting.clear()
        with work.step("store"):
            prepared = searches.add(ids, block)
        with work.step("verify"):
            oracle.add(ids, prepared)

    for batch in vectors.stream(work, documents, wire.EVALUATION_STEP_INDEXING, "document"):
        waiting.append(batch)
        if sum(len(positions) for positions, _ in waiting) >= FLUSH_ROWS:
            flush()
    if waiting:
        flush()
    searches.seal(len(documents.items), work.step)


def _search(work: Work, searches: Searches, wanted: int, oracle: Oracle) -> Iterator[tuple[int, Ids, Floats]]:
    """Yields the number of a block's first query, and the positions and scores of the exact search."""
    started = time.perf_counter()
    total = len(searches.main.collection.asked)
    first, size = 0, min(FIRST_BLOCK, QUERIES_PER_BLOCK)
    while first < total:
        work.progress(wire.EVALUATION_STEP_SEARCHING, first, total, started)
        ids, scores = _ask(work, searches, searches.main, first, size, wanted)
        with work.step("verify"):
            oracle.check(first, ids, scores)
        yield first, ids, scores
        first += size
        size = max(min(QUERIES_PER_BLOCK, RESULTS_PER_BLOCK // max(ids.shape[1], 1)), 1)


def _ask(work: Work, searches: Searches, way: Way, first: int, size: int, wanted: int) -> tuple[Ids, Floats]:
    work.check()
    with work.step("search"):
        return searches.search(way, first, size, wanted)
