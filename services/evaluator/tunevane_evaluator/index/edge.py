"""The embedded engine in a process of its own: `python -m tunevane_evaluator.index.edge FOLDER`.

qdrant-edge holds the interpreter lock for seconds and shares no models with qdrant-client. So it runs here, behind
the few calls of Qdrant's gRPC protocol that an evaluation makes, and the evaluator has one code path for laptop
and cluster. The port is printed on stdout; the process ends when its stdin does.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import qdrant_edge as engine
from qdrant_client import grpc as wire
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from tunevane_evaluator.index.frames import PointFrames, split

VERSION = "edge-0.9"
# Requests, responses and contexts are Qdrant's own untyped stubs, hence `Any`.


@dataclass(frozen=True)
class Collection:
    """One collection."""

    shard: engine.EdgeShard
    """What stores and searches."""

    place: Path
    """Folder of its files."""

    frames: PointFrames
    """Reads its points."""


class Shards:
    """The collections, one shard and one folder each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, Collection] = {}
        self._lock = threading.Lock()

    def create(self, name: str, dimensions: int, config: engine.EdgeConfig) -> None:
        """Makes a collection."""
        place = Path(tempfile.mkdtemp(dir=self._folder))
        shard = engine.EdgeShard.create(str(place), config)
        with self._lock:
            self._shards[name] = Collection(shard, place, PointFrames(dimensions))

    def get(self, name: str, context: Any) -> Collection:
        """Returns a collection, or ends the call with NOT_FOUND."""
        with self._lock:
            if name not in self._shards:
                context.abort(grpc.StatusCode.NOT_FOUND, f"there is no collection {name}")
            return self._shards[name]

    def drop(self, name: str) -> bool:
        """Removes a collection and its files."""
        with self._lock:
            found = self._shards.pop(name, None)
        if found is None:
            return False
        found.shard.close()
        shutil.rmtree(found.place, ignore_errors=True)
        return True

    def names(self) -> list[str]:
        """Lists the collections."""
        with self._lock:
            return sorted(self._shards)


class Collections(CollectionsServicer):
    """Makes, lists and removes collections."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Makes a collection."""
        params = request.vectors_config.params
        try:
            self._shards.create(request.collection_name, params.size, _config(params))
        except Exception as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return wire.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Indexes a collection that was made to be indexed; answers when that is done."""
        self._shards.get(request.collection_name, context).shard.optimize()
        return wire.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Tells how much of a collection is indexed."""
        info = self._shards.get(request.collection_name, context).shard.info()
        state = wire.CollectionInfo(
            status=wire.CollectionStatus.Green,
            optimizer_status=wire.OptimizerStatus(ok=True),
            points_count=info.points_count,
            indexed_vectors_count=info.indexed_vectors_count,
        )
        return wire.GetCollectionInfoResponse(result=state)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Removes a collection."""
        return wire.CollectionOperationResponse(result=self._shards.drop(request.collection_name))

    def List(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Lists the collections."""
        names = [wire.CollectionDescription(name=name) for name in self._shards.names()]
        return wire.ListCollectionsResponse(collections=names)


def _config(params: Any) -> engine.EdgeConfig:
    """Reads how a collection is to be built: without a write-ahead log, because it is not meant to stay.

    Raises:
        ValueError: The engine cannot.

    """
    distances = {wire.Distance.Dot: engine.Distance.Dot, wire.Distance.Euclid: engine.Distance.Euclid}
    if params.distance not in distances:
        raise ValueError("this engine is asked for Dot and Euclid only")
    hnsw = params.hnsw_config
    quantization: engine.ScalarQuantizationConfig | engine.BinaryQuantizationConfig | None = None
    if params.quantization_config.HasField("scalar"):
        quantization = engine.ScalarQuantizationConfig(type=engine.ScalarType.Int8, always_ram=True)
    elif params.quantization_config.HasField("binary"):
        quantization = engine.BinaryQuantizationConfig(always_ram=True)
    indexed = hnsw.m > 0 or quantization is not None
    graph = engine.HnswIndexConfig(
        m=hnsw.m, ef_construct=hnsw.ef_construct or 100, full_scan_threshold=hnsw.full_scan_threshold or 10
    )
    vectors = engine.EdgeVectorParams(
        size=params.size,
        distance=distances[params.distance],
        hnsw_config=graph if indexed else None,
        quantization_config=quantization,
    )
    optimizers = engine.EdgeOptimizersConfig(indexing_threshold=1 if indexed else 0)
    return engine.EdgeConfig(vectors=vectors, optimizers=optimizers, wal_enabled=False)


def _params(params: Any) -> engine.SearchParams:
    """Reads how a query is to be answered."""
    quantization = None
    if params.HasField("quantization"):
        quantization = engine.QuantizationSearchParams(
            rescore=params.quantization.rescore, oversampling=params.quantization.oversampling
        )
    ef = params.hnsw_ef if params.HasField("hnsw_ef") else None
    return engine.SearchParams(exact=params.exact, hnsw_ef=ef, quantization=quantization)


class Points:
    """Stores, counts and searches vectors."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def handlers(self) -> grpc.GenericRpcHandler:
        """Lists the methods; the generated code would parse each point of an upsert, which takes most of its time."""
        method = grpc.unary_unary_rpc_method_handler
        known: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Upsert": method(self.upsert, None, wire.PointsOperationResponse.SerializeToString),
            "Count": method(self.count, wire.CountPoints.FromString, wire.CountResponse.SerializeToString),
            "QueryBatch": method(
                self.query_batch, wire.QueryBatchPoints.FromString, wire.QueryBatchResponse.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler("qdrant.Points", known)

    def upsert(self, data: bytes, context: Any) -> Any:
        """Stores vectors."""
        # The engine takes any buffer of floats, which is four times faster than the lists its types name.
        points: list[Any]
        parts = split(data)
        read = None if parts is None else (found := self._shards.get(parts[0], context)).frames.read(parts[1])
        if read is not None:
            points = [engine.Point(number, _buffer(row)) for number, row in zip(read[0].tolist(), read[1], strict=True)]
        else:
            request = wire.UpsertPoints.FromString(data)
            found = self._shards.get(request.collection_name, context)
            points = [
                engine.Point(point.id.num, _buffer(np.fromiter(point.vectors.vector.dense.data, np.float32)))
                for point in request.points
            ]
        try:
            found.shard.update(engine.UpdateOperation.upsert_points(points))
        except Exception as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))

    def count(self, request: Any, context: Any) -> Any:
        """Counts vectors."""
        shard = self._shards.get(request.collection_name, context).shard
        return wire.CountResponse(result=wire.CountResult(count=shard.count(engine.CountRequest(exact=True))))

    def query_batch(self, request: Any, context: Any) -> Any:
        """Searches for several queries at once, unless nobody waits for them any more."""
        if not context.is_active():
            context.abort(grpc.StatusCode.CANCELLED, "the caller has left")
        shard = self._shards.get(request.collection_name, context).shard
        queries = [
            engine.QueryRequest(
                limit=query.limit,
                query=engine.Query.Nearest(list(query.query.nearest.dense.data)),
                params=_params(query.params),
                with_payload=False,
                with_vector=False,
            )
            for query in request.query_points
        ]
        try:
            # Any: ids can be numbers or UUIDs; ours are the numbers that were stored.
            found: Any = shard.query_batch(engine.QueryBatchRequest(queries))
        except Exception as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return wire.QueryBatchResponse(
            result=[
                wire.BatchResult(
                    result=[wire.ScoredPoint(id=wire.PointId(num=hit.id), score=hit.score) for hit in hits]
                )
                for hits in found
            ]
        )


def _buffer(vector: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    return memoryview(vector)  # type: ignore[arg-type]  # arrays are buffers


class Health(QdrantServicer):
    """Says hello."""

    def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        """Says hello."""
        return wire.HealthCheckReply(title="qdrant-edge", version=VERSION)


def main(folder: Path) -> None:
    """Serves until stdin ends."""
    shards = Shards(folder)
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    add_CollectionsServicer_to_server(Collections(shards), server)
    server.add_generic_rpc_handlers((Points(shards).handlers(),))
    add_QdrantServicer_to_server(Health(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    # The parent holds the other end: whatever way it dies, this read returns.
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
