"""From search settings to Qdrant's messages: how a collection is made, built and searched."""

from __future__ import annotations

import time
from collections.abc import Callable

from qdrant_client import grpc as wire

from tunevane import log
from tunevane.core.search_settings import SearchSettings
from tunevane.errors import EvaluationFailedError
from tunevane_evaluator.index.connection import QdrantConnection

_log = log.get("qdrant")

POLL_SECONDS = 0.1
STILL_SECONDS = 30.0
"""How long a server may say that it is done while it has indexed less than it holds."""

THRESHOLD_KILOBYTES = 1
"""Segments of vectors below this size stay as they are; Qdrant knows no smaller one."""

MANY_SEGMENTS = 64
"""More than a server spreads a new collection over."""


def creation(name: str, dimensions: int, settings: SearchSettings, *, euclidean: bool) -> wire.CreateCollection:
    """Returns the request that makes a collection; nothing is indexed while vectors arrive."""
    hnsw = wire.HnswConfigDiff(m=0)
    if settings.hnsw is not None:
        # The smallest threshold, so that the graph is used however small the set is.
        hnsw = wire.HnswConfigDiff(m=settings.hnsw.m, ef_construct=settings.hnsw.ef_construct, full_scan_threshold=10)
    quantization = None
    if settings.quantization is not None and settings.quantization.kind == "int8":
        scalar = wire.ScalarQuantization(type=wire.QuantizationType.Int8, always_ram=True)
        quantization = wire.QuantizationConfig(scalar=scalar)
    elif settings.quantization is not None:
        quantization = wire.QuantizationConfig(binary=wire.BinaryQuantization(always_ram=True))
    params = wire.VectorParams(
        size=dimensions,
        distance=wire.Distance.Euclid if euclidean else wire.Distance.Dot,
        hnsw_config=hnsw,
        quantization_config=quantization,
    )
    return wire.CreateCollection(
        collection_name=name,
        vectors_config=wire.VectorsConfig(params=params),
        optimizers_config=wire.OptimizersConfigDiff(indexing_threshold=0),
        replication_factor=1,
        # A server's limits are meant for what stays.
        strict_mode_config=wire.StrictModeConfig(enabled=False),
    )


def search_params(settings: SearchSettings) -> wire.SearchParams:
    """Returns how queries are answered."""
    if settings.is_exact:
        return wire.SearchParams(exact=True)
    params = wire.SearchParams(exact=False)
    if settings.hnsw is not None and settings.hnsw.ef is not None:
        params.hnsw_ef = settings.hnsw.ef
    if settings.quantization is not None:
        quantization = wire.QuantizationSearchParams(
            ignore=False, rescore=settings.quantization.rescore, oversampling=settings.quantization.oversampling
        )
        params.quantization.CopyFrom(quantization)
    return params


def build(connection: QdrantConnection, name: str, dimensions: int, check: Callable[[], None]) -> None:
    """Lets the server index a full collection, and waits until it has.

    Args:
        connection: Where it lives.
        name: Of the collection.
        dimensions: Numbers in each vector.
        check: Asked while waiting; raises to give up.

    Raises:
        EvaluationFailedError: It says that it cannot.
        UnavailableError: It went away.

    """
    threshold = wire.OptimizersConfigDiff(indexing_threshold=THRESHOLD_KILOBYTES)
    request = wire.UpdateCollection(collection_name=name, optimizers_config=threshold)
    connection.ask(connection.collections.Update, request, "indexing a collection", check)
    since: float | None = None
    while True:
        state = wire.GetCollectionInfoRequest(collection_name=name)
        info = connection.ask(connection.collections.Get, state, "indexing a collection", check).result
        if info.status == wire.CollectionStatus.Red or not info.optimizer_status.ok:
            said = info.optimizer_status.error or "its state is red"
            raise EvaluationFailedError(f"Qdrant at {connection.address.target} cannot index a collection: {said}")
        if info.status == wire.CollectionStatus.Green:
            small = 4 * dimensions * info.points_count < 1024 * THRESHOLD_KILOBYTES * MANY_SEGMENTS
            if small or info.indexed_vectors_count >= info.points_count:
                return
            since = time.monotonic() if since is None else since
            if time.monotonic() - since > STILL_SECONDS:
                _log.warning("indexed=%d points=%d", info.indexed_vectors_count, info.points_count)
                return
        else:
            since = None
        _pause(POLL_SECONDS, check)


def _pause(seconds: float, check: Callable[[], None]) -> None:
    check()
    time.sleep(seconds)
