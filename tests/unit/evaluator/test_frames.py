"""Bytes laid out by numpy mean what protobuf would have written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as wire

from tunevane_evaluator.index import frames
from tunevane_evaluator.index.frames import PointFrames


@given(st.lists(st.integers(0, 2**35 - 1), min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_protobuf_reads_what_was_written(numbers: list[int], dimensions: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(numbers), dimensions)).astype(np.float32)
    ids = np.array(numbers, np.int64)
    made = PointFrames(dimensions)
    rows = made.write(ids, vectors)
    message = wire.UpsertPoints.FromString(frames.head("a name") + rows)
    points = [
        wire.PointStruct(
            id=wire.PointId(num=number),
            vectors=wire.Vectors(vector=wire.Vector(dense=wire.DenseVector(data=vector))),
        )
        for number, vector in zip(numbers, vectors, strict=True)
    ]
    assert message == wire.UpsertPoints(collection_name="a name", wait=True, points=points)
    parts = frames.split(frames.head("a name") + rows)
    assert parts is not None
    assert parts[0] == "a name"
    read = made.read(parts[1])
    assert read is not None
    np.testing.assert_array_equal(read[0], ids)
    np.testing.assert_array_equal(read[1], vectors)
    # The engine takes aligned memory only.
    assert read[1].flags.aligned
    assert read[1].flags.c_contiguous


@pytest.mark.parametrize("dimensions", [1, 31, 32, 384, 768, 4096, 30000])
def test_vectors_of_any_size_fit(dimensions: int) -> None:
    vectors = np.arange(2 * dimensions, dtype=np.float32).reshape(2, dimensions)
    rows = PointFrames(dimensions).write(np.array([0, 127]), vectors)
    points = wire.UpsertPoints.FromString(rows).points
    assert [point.id.num for point in points] == [0, 127]
    np.testing.assert_array_equal(points[1].vectors.vector.dense.data, vectors[1])


def test_parts_of_a_larger_array_are_written_as_they_are() -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    made = PointFrames(3)
    read = made.read(made.write(np.array([5, 6]), wide[::2, ::2]))
    assert read is not None
    np.testing.assert_array_equal(read[1], wide[::2, ::2])


@pytest.mark.parametrize("what", ["short", "other size", "other order", "payload"])
def test_what_others_wrote_is_left_to_protobuf(what: str) -> None:
    made = PointFrames(3)
    rows = made.write(np.array([1, 2]), np.ones((2, 3), np.float32))
    other = {
        "short": rows[:-1],
        "other size": PointFrames(4).write(np.array([1, 2]), np.ones((2, 4), np.float32)),
        "other order": rows[2:] + rows[:2],
        "payload": wire.UpsertPoints(points=[wire.PointStruct(id=wire.PointId(uuid="x"))]).SerializeToString(),
    }[what]
    assert made.read(other) is None


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\x05abc", b"\x12\x01a\x10\x01", frames.head("x" * 200), b"\x0a\x01a\x10\x00"]
)
def test_other_beginnings_are_left_to_protobuf(data: bytes) -> None:
    assert frames.split(data) is None
