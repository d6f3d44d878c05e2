"""A stand-in for a Qdrant server: its gRPC calls that we use, brute force behind them, and faults on demand."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from qdrant_client import grpc as wire

# Requests, responses and contexts are Qdrant's own untyped stubs, hence `Any`.

Refusal = tuple[grpc.StatusCode, str]


@dataclass
class Collection:
    """What a collection was made with, and what it holds."""

    request: Any
    vectors: dict[int, Any] = field(default_factory=dict)


class QdrantServer:
    """Listens on loopback until it is stopped; may be stopped and started again, and then still holds everything."""

    def __init__(
        self, *, version: str = "1.16.0", api_key: str | None = None, identity: tuple[bytes, bytes] | None = None
    ) -> None:
        """Starts it.

        Args:
            version: What it says of itself.
            api_key: Key that it demands.
            identity: Private key and certificate, PEM, of the encrypted port; None listens in plain text.

        """
        self.version, self.api_key, self.identity = version, api_key, identity
        self.collections: dict[str, Collection] = {}
        self.made: list[Any] = []
        """Every request that made a collection."""

        self.refusals: dict[str, Refusal] = {}
        """What it answers by the name of a call, for example `QueryBatch`."""

        self.on_call: Callable[[str], None] = lambda name: None
        """Hears the name of every call before it is answered."""

        self.lose: int = 0
        """How many vectors of each upload it forgets."""

        self.port = 0
        self._server: grpc.Server | None = None
        self.start()

    @property
    def url(self) -> str:
        """Returns its address."""
        return f"{'http' if self.identity is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, on the same port as before."""
        self._server = grpc.server(
            ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
        )
        methods: dict[str, dict[str, tuple[Callable[[Any], Any], Any]]] = {
            "qdrant.Qdrant": {"HealthCheck": (self._health, wire.HealthCheckRequest)},
            "qdrant.Collections": {
                "Create": (self._create, wire.CreateCollection),
                "Update": (self._update, wire.UpdateCollection),
                "Get": (self._get, wire.GetCollectionInfoRequest),
                "List": (self._list, wire.ListCollectionsRequest),
                "Delete": (self._delete, wire.DeleteCollection),
            },
            "qdrant.Points": {
                "Upsert": (self._upsert, wire.UpsertPoints),
                "Count": (self._count, wire.CountPoints),
                "QueryBatch": (self._query, wire.QueryBatchPoints),
            },
        }
        for service, calls in methods.items():
            handlers = {name: self._handler(name, *call) for name, call in calls.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        address = f"127.0.0.1:{self.port}"
        if self.identity is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([self.identity]))
        self._server.start()

    def stop(self) -> None:
        """Breaks off every call and listens no more."""
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def _handler(self, name: str, answer: Callable[[Any], Any], message: Any) -> Any:
        def call(data: bytes, context: Any) -> bytes:
            self.on_call(name)
            if self.api_key is not None and dict(context.invocation_metadata()).get("api-key") != self.api_key:
                context.abort(
                    grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key or an Authorization bearer token"
                )
            if name in self.refusals:
                context.abort(*self.refusals[name])
            request = message.FromString(data)
            known = name in ("HealthCheck", "Create", "List", "Delete") or request.collection_name in self.collections
            if not known:
                missing = f"Not found: Collection `{request.collection_name}` doesn't exist!"
                context.abort(grpc.StatusCode.NOT_FOUND, missing)
            try:
                return bytes(answer(request).SerializeToString())
            except ValueError as error:
                return bytes(context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)))

        return grpc.unary_unary_rpc_method_handler(call)

    def _health(self, request: Any) -> Any:
        return wire.HealthCheckReply(title="qdrant - vector search engine", version=self.version)

    def _create(self, request: Any) -> Any:
        self.made.append(request)
        self.collections[request.collection_name] = Collection(request)
        return wire.CollectionOperationResponse(result=True)

    def _update(self, request: Any) -> Any:
        return wire.CollectionOperationResponse(result=True)

    def _get(self, request: Any) -> Any:
        count = len(self.collections[request.collection_name].vectors)
        state = wire.CollectionInfo(
            status=wire.CollectionStatus.Green,
            optimizer_status=wire.OptimizerStatus(ok=True),
            points_count=count,
            indexed_vectors_count=count,
        )
        return wire.GetCollectionInfoResponse(result=state)

    def _list(self, request: Any) -> Any:
        names = [wire.CollectionDescription(name=name) for name in list(self.collections)]
        return wire.ListCollectionsResponse(collections=names)

    def _delete(self, request: Any) -> Any:
        return wire.CollectionOperationResponse(result=self.collections.pop(request.collection_name, None) is not None)

    def _upsert(self, request: Any) -> Any:
        collection = self.collections[request.collection_name]
        size = collection.request.vectors_config.params.size
        for point in request.points[self.lose :]:
            vector = np.array(point.vectors.vector.dense.data, np.float32)
            if len(vector) != size:
                raise ValueError(f"Wrong input: Vector dimension error: expected dim: {size}, got {len(vector)}")
            collection.vectors[point.id.num] = vector
        return wire.PointsOperationResponse(result=wire.UpdateResult(status=wire.UpdateStatus.Completed))

    def _count(self, request: Any) -> Any:
        held = len(self.collections[request.collection_name].vectors)
        return wire.CountResponse(result=wire.CountResult(count=held))

    def _query(self, request: Any) -> Any:
        collection = self.collections[request.collection_name]
        ids = np.array(list(collection.vectors), np.int64)
        stored = np.stack(list(collection.vectors.values()))
        euclidean = collection.request.vectors_config.params.distance == wire.Distance.Euclid
        results = []
        for query in request.query_points:
            asked = np.array(query.query.nearest.dense.data, np.float32)
            scores = np.linalg.norm(stored - asked, axis=1) if euclidean else stored @ asked
            best = np.argsort(scores if euclidean else -scores, kind="stable")[: query.limit]
            hits = [wire.ScoredPoint(id=wire.PointId(num=int(ids[n])), score=scores[n], version=3) for n in best]
            results.append(wire.BatchResult(result=hits))
        return wire.QueryBatchResponse(result=results, time=0.001)


def identity() -> tuple[bytes, bytes]:
    """Makes a private key, and a certificate for this machine's loopback address, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a stand-in for Qdrant")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
