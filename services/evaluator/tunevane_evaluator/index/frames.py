"""Points as rows of bytes: what protobuf would write for Qdrant, laid out by numpy for a thousand points at once.

All points of one request have the same length when their ids are written as varints of five bytes, which protobuf
reads like shorter ones. So one real message gives the template of a row, and only ids and vectors are filled in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc as wire

from tunevane_evaluator.index.port import Floats

ID_BYTES = 5
_LARGEST_ID = (1 << 7 * ID_BYTES) - 1
_SHIFTS = np.arange(0, 7 * ID_BYTES, 7, dtype=np.uint64)
_MORE = np.array([0x80] * (ID_BYTES - 1) + [0], np.uint8)
"""The bit that says that another byte of a varint follows."""


class PointFrames:
    """Writes and reads the `points` of an `UpsertPoints` message, for vectors of one size."""

    def __init__(self, dimensions: int) -> None:
        """Cuts the template out of a real message.

        Args:
            dimensions: Numbers in each vector, d.

        """
        self._dimensions = dimensions
        # Such an id has five bytes by itself, and none of them occurs elsewhere in that order.
        point = _message(_LARGEST_ID, np.zeros(dimensions, np.float32))
        row = wire.UpsertPoints(points=[point]).SerializeToString()
        self._id = row.index(b"\xff" * (ID_BYTES - 1) + b"\x7f")
        self._floats = len(row) - 4 * dimensions
        self._template = np.frombuffer(row, np.uint8)
        fixed = np.ones(len(row), np.bool_)
        fixed[self._id : self._id + ID_BYTES] = False
        fixed[self._floats :] = False
        self._fixed = np.flatnonzero(fixed)
        self._before, self._memory = b"", np.zeros(0, np.uint8)

    def write(self, ids: npt.NDArray[np.int64], vectors: Floats, before: bytes = b"") -> bytes:
        """Returns the bytes of the field `points`, after those of the other fields. One thread at a time may call it.

        Args:
            ids: Ids `[b]`, below 2**35.
            vectors: Vectors `[b, d]`.
            before: What the message begins with.

        """
        buffer = self._buffer(len(before) + len(ids) * len(self._template), before)
        rows = buffer[len(before) :].reshape(len(ids), -1)
        low = (ids.astype(np.uint64)[:, None] >> _SHIFTS).astype(np.uint8) & 0x7F
        rows[:, self._id : self._id + ID_BYTES] = low | _MORE
        rows[:, self._floats :] = np.ascontiguousarray(vectors, "<f4").view(np.uint8)
        return buffer.tobytes()

    def _buffer(self, size: int, before: bytes) -> npt.NDArray[np.uint8]:
        """Returns memory in which all but ids and numbers is written; it is used again as long as it fits."""
        if self._before != before or len(self._memory) < size:
            rows = -(-(size - len(before)) // len(self._template))
            self._memory = np.concatenate([np.frombuffer(before, np.uint8), np.tile(self._template, rows)])
            self._before = before
        return self._memory[:size]

    def read(self, data: bytes | memoryview) -> tuple[npt.NDArray[np.int64], Floats] | None:
        """Returns ids `[b]` and vectors `[b, d]` of bytes that `write` made; None if others did."""
        width = len(self._template)
        if len(data) % width:
            return None
        rows = np.frombuffer(data, np.uint8).reshape(-1, width)
        varints = rows[:, self._id : self._id + ID_BYTES]
        if not (rows[:, self._fixed] == self._template[self._fixed]).all() or not ((varints & 0x80) == _MORE).all():
            return None
        ids = ((varints & 0x7F).astype(np.uint64) << _SHIFTS).sum(axis=1, dtype=np.uint64).astype(np.int64)
        # A copy, because numbers do not start at a multiple of four bytes in a row.
        vectors = rows[:, self._floats :].copy().view("<f4")
        return ids, vectors.reshape(len(rows), self._dimensions)


def _message(number: int, vector: npt.NDArray[np.float32]) -> wire.PointStruct:
    dense = wire.DenseVector(data=vector)
    return wire.PointStruct(id=wire.PointId(num=number), vectors=wire.Vectors(vector=wire.Vector(dense=dense)))


def head(collection: str) -> bytes:
    """Returns the bytes of the other fields of an `UpsertPoints` message, which waits until its points are stored."""
    return bytes(wire.UpsertPoints(collection_name=collection, wait=True).SerializeToString())


def split(data: bytes) -> tuple[str, memoryview] | None:
    """Takes apart what `head` and `PointFrames.write` put together: the collection, and the rest.

    Returns:
        None for bytes that begin in another way.

    """
    # Field 1 with a length of one byte, then field 2, true.
    if len(data) < 2 or data[0] != 0x0A or data[1] > 0x7F:
        return None
    end = 2 + data[1]
    if data[end : end + 2] != b"\x10\x01":
        return None
    return data[2:end].decode("utf-8", "replace"), memoryview(data)[end + 2 :]
