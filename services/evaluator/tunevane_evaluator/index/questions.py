"""Queries as rows of bytes: a `QueryBatchPoints` message laid out by numpy, one row for each query."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc as wire

from tunevane_evaluator.index.port import Floats


class QueryFrames:
    """Writes requests that differ in nothing but their vectors."""

    def __init__(self, collection: str, dimensions: int, limit: int, params: wire.SearchParams) -> None:
        """Cuts the template out of a real message.

        Args:
            collection: Where to search.
            dimensions: Numbers in each vector, d.
            limit: Results per query.
            params: How to search.

        """
        # Numbers that end up as bytes that occur nowhere else in that order.
        marks = np.full(dimensions, np.array([0xABCDEF99], "<u4").view("<f4")[0], "<f4")
        query = wire.QueryPoints(
            collection_name=collection,
            query=wire.Query(nearest=wire.VectorInput(dense=wire.DenseVector(data=marks))),
            params=params,
            limit=limit,
            with_payload=wire.WithPayloadSelector(enable=False),
            with_vectors=wire.WithVectorsSelector(enable=False),
        )
        row = wire.QueryBatchPoints(query_points=[query]).SerializeToString()
        self._template = np.frombuffer(row, np.uint8)
        self._first = row.index(marks.tobytes())
        self._after = self._first + 4 * dimensions
        self._head = np.frombuffer(wire.QueryBatchPoints(collection_name=collection).SerializeToString(), np.uint8)

    def write(self, queries: Floats) -> bytes:
        """Returns the bytes of a request for queries `[b, d]`."""
        rows: npt.NDArray[np.uint8] = np.tile(self._template, (len(queries), 1))
        rows[:, self._first : self._after] = np.ascontiguousarray(queries, "<f4").view(np.uint8)
        return np.concatenate([self._head, rows.ravel()]).tobytes()
