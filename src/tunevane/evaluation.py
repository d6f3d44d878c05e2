"""`tunevane.evaluate`: how well a model retrieves, once, without a run."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.callback.evaluation import EvaluationCallback
from tunevane.client.evaluator import EvaluatorClient, OnProgress
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem
from tunevane.nn.named import named
from tunevane.storage import datasets
from tunevane.storage.blobs import BlobStore

EVALUATOR_VARIABLE = "TUNEVANE_EVALUATOR_TARGET"


@dataclass(frozen=True)
class Evaluation:
    """What came out of an evaluation."""

    metrics: Mapping[str, float]
    """Metrics by name."""

    query_count: int
    """Queries measured."""

    document_count: int
    """Documents searched."""

    per_query: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    """Value of every metric for every query, `[q]`, in the order of the query set."""

    examples: list[dict[str, object]] = field(repr=False)
    """Example results, `{"id", "text", "results": [...]}` each; empty unless asked for."""

    warnings: tuple[str, ...] = ()
    """Sentences about what looks wrong."""

    seconds: Mapping[str, float] = field(default_factory=dict, repr=False)
    """Wall seconds by step; those of the first time where the result was remembered."""

    computed: bool = True
    """Whether it was computed for this call rather than remembered."""


def evaluate(
    model: str | Path,
    *,
    query_data: object,
    index_data: object = None,
    metrics: Iterable[str] | None = None,
    limit: int = 20,
    distance: Literal["cosine", "euclidean", "sqeuclidean"] = "cosine",
    exclude_self: bool = True,
    ties: Literal["expected", "position"] = "expected",
    precision: Literal["fp32", "bf16"] = "fp32",
    num_example_queries: int = 0,
    query_sample_size: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    model_options: Mapping[str, object] | None = None,
    timeout_seconds: float = 3600.0,
    target: str | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measures how well a model retrieves.

    Args:
        model: Registered name, or the path of a sentence-transformers folder.
        query_data: The queries: a path, records, or a table.
        index_data: What they search; None searches the query set itself.
        metrics: For example `["ndcg@10"]`; None computes the reference set.
        limit: Results fetched per query, in [1, 1000].
        distance: How two vectors are compared.
        exclude_self: Whether a query's own document is dropped from its results.
        ties: How equal scores are counted.
        precision: Arithmetic of the encoder.
        num_example_queries: Queries to keep example results for.
        query_sample_size: Queries to measure with, drawn by seed; None measures with all.
        batch_size: Items per encoding batch; None lets the evaluator choose.
        seed: Of the query sample and of the choice of examples.
        model_options: Options of the model, for example `{"max_seq_length": 32}`.
        timeout_seconds: For everything, repeats included.
        target: Address of an evaluator; None takes `TUNEVANE_EVALUATOR_TARGET`, and where that is not set the services
            of this machine, which are started if they are not running.
        on_progress: Hears how far it is.

    Raises:
        InvalidRequestError: Lists everything that cannot work.
        DataFormatError: A data file cannot be read; names file, line and reason.
        EvaluationFailedError: The evaluation cannot succeed, however often it is tried.
        UnavailableError: There was no answer in time.

    """
    options: dict[str, object] = {
        "query_data": query_data,
        "index_data": index_data,
        "metrics": None if metrics is None else tuple(metrics),
        "limit": limit,
        "distance": distance,
        "exclude_self": exclude_self,
        "ties": ties,
        "precision": precision,
        "gather_examples": num_example_queries > 0,
        "num_example_queries": num_example_queries,
        "query_sample_size": query_sample_size,
        "batch_size": batch_size,
        "timeout_seconds": timeout_seconds,
    }
    try:
        callback = specs.build(EvaluationCallback, options, "")
    except InvalidRequestError as error:
        found = [Problem(each.field.removeprefix("."), each.message) for each in error.problems]
        raise InvalidRequestError(found) from None
    with tempfile.TemporaryDirectory(prefix="tunevane-evaluate-", ignore_cleanup_errors=True) as scratch:
        store = BlobStore(Path(scratch))
        queries = datasets.write(query_data, store, is_labeled=True)
        index = None if index_data is None else datasets.write(index_data, store, is_labeled=True)
        request = wire.EvaluateRequest(
            model=named(model, model_options or {}, store), plan=callback.plan(queries, index, seed)
        )
        client = EvaluatorClient(evaluator_target(target), store)
        result = client.evaluate(request, timeout_seconds=timeout_seconds, on_progress=on_progress)
        return understood(result, client)


def evaluator_target(target: str | None) -> str:
    """Returns the address of the evaluator to use; see `evaluate`."""
    chosen = target or os.environ.get(EVALUATOR_VARIABLE)
    if chosen:
        return chosen
    from tunevane import local

    return local.ensure().evaluator


def understood(result: wire.EvaluationResult, client: EvaluatorClient) -> Evaluation:
    """Reads a result, with the files that it names."""
    with np.load(io.BytesIO(client.read(result.per_query)), allow_pickle=False) as arrays:
        per_query = {name: np.asarray(arrays[name], np.float64) for name in arrays.files}
    examples = json.loads(client.read(result.examples))["queries"] if result.HasField("examples") else []
    # The service's map has no order.
    values = result.metrics.values
    order = [name for name in per_query if name in values] or sorted(values)
    return Evaluation(
        metrics={name: values[name] for name in order},
        query_count=result.query_count,
        document_count=result.document_count,
        per_query=per_query,
        examples=examples,
        warnings=tuple(result.warnings),
        seconds=dict(result.seconds),
        computed=result.computed,
    )
