"""Reads the ids and scores of a `QueryBatchResponse` with numpy, all queries at once.

A thousand small messages as Python objects would cost more than everything else that a client does. What is not laid
out as Qdrant does it for numbered points without payload is left to protobuf.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import numpy.typing as npt
from qdrant_client import grpc as wire

from tunevane_evaluator.index.port import Floats, Ids

_ID_BYTES = 5
_LENGTH_DELIMITED = 2
_RESULT, _TIME = 0x0A, 0x11
"""Tags of the answer: the results of a query; how long it took."""

_HIT = 0x0A
"""Tag of one result among those of a query."""

_ID, _NUMBER, _SCORE, _VERSION = 0x0A, 0x08, 0x1D, 0x28
"""Tags of a result: its id and the number in it; its score; its version, which follows."""

Positions = npt.NDArray[np.int64]


def read(data: bytes) -> tuple[Ids, Floats]:
    """Returns ids `[q, k]` and scores `[q, k]` in the order of the answer, padded with -1 and -inf.

    Raises:
        ValueError: It is no such message.

    """
    found = _fast(data)
    return _slow(data) if found is None else found


def _slow(data: bytes) -> tuple[Ids, Floats]:
    try:
        answer = wire.QueryBatchResponse.FromString(data)
    except Exception as error:  # protobuf's own class differs between its implementations
        raise ValueError(f"{len(data)} bytes are no answer to queries: {error}") from None
    width = max((len(batch.result) for batch in answer.result), default=0)
    ids: Ids = np.full((len(answer.result), width), -1, np.int64)
    scores: Floats = np.full((len(answer.result), width), -np.inf, np.float32)
    for row, batch in enumerate(answer.result):
        for column, hit in enumerate(batch.result):
            ids[row, column], scores[row, column] = hit.id.num, hit.score
    return ids, scores


def _fast(data: bytes) -> tuple[Ids, Floats] | None:
    spans = _batches(data)
    if spans is None:
        return None
    # Longer than the data, so that no look ahead leaves the array.
    octets = np.frombuffer(data + bytes(16), np.uint8)
    found = _hits(octets, spans)
    if found is None:
        return None
    rows, columns, starts = found
    fields = _fields(octets, starts)
    if fields is None:
        return None
    width = int(columns.max(initial=-1)) + 1
    ids: Ids = np.full((len(spans), width), -1, np.int64)
    scores: Floats = np.full((len(spans), width), -np.inf, np.float32)
    ids[rows, columns], scores[rows, columns] = fields
    return ids, scores


def _batches(data: bytes) -> Positions | None:
    """Returns where each query's results begin and end, `[q, 2]`."""
    spans: list[tuple[int, int]] = []
    place = 0
    while place < len(data):
        tag = data[place]
        place += 1
        if tag == _TIME:
            place += 8
            continue
        if tag & 7 != _LENGTH_DELIMITED or tag > 0x7F:
            return None
        length = shift = 0
        while place < len(data):
            length |= (data[place] & 0x7F) << shift
            shift += 7
            place += 1
            if data[place - 1] < 0x80:
                break
        if place + length > len(data):
            return None
        if tag == _RESULT:
            spans.append((place, place + length))
        place += length
    return np.array(spans, np.int64).reshape(-1, 2)


def _hits(octets: npt.NDArray[np.uint8], spans: Positions) -> tuple[Positions, Positions, Positions] | None:
    """Follows the lengths from result to result, for all queries in step.

    Returns:
        Number of the query, rank in it, and place in the data, of each result.

    """
    rows, columns, starts = ([np.zeros(0, np.int64)] for _ in range(3))
    alive, (place, stop) = np.arange(len(spans)), spans.T
    for rank in count():
        going = place < stop
        if not going.all():
            alive, place, stop = alive[going], place[going], stop[going]
        if not len(alive):
            return np.concatenate(rows), np.concatenate(columns), np.concatenate(starts)
        lengths = octets[place + 1]
        after = place + 2 + lengths
        if (octets[place] != _HIT).any() or (lengths > 0x7F).any() or (after > stop).any():
            return None
        rows.append(alive)
        columns.append(np.full(len(alive), rank))
        starts.append(place)
        place = after
    raise AssertionError("counting has no end")


def _fields(octets: npt.NDArray[np.uint8], starts: Positions) -> tuple[Positions, npt.NDArray[np.float32]] | None:
    """Returns id and score of each result."""
    after = starts + 2 + octets[starts + 1]
    digits = octets[starts + 3].astype(np.int64) - 1  # of the id, seven bits each
    known = (octets[starts + 2] == _ID) & (octets[starts + 4] == _NUMBER) & (digits >= 1) & (digits <= _ID_BYTES)
    if not known.all():
        return None
    ids = np.zeros(len(starts), np.int64)
    for position in range(int(digits.max(initial=0))):
        seven = (octets[starts + 5 + position] & 0x7F).astype(np.int64) << (7 * position)
        ids += np.where(position < digits, seven, 0)
    place = starts + 5 + digits
    scored = (octets[place] == _SCORE) & (place + 5 <= after)
    # A score of exactly 0 is left out, as protobuf does.
    if not (scored | (place == after) | (octets[place] == _VERSION)).all():
        return None
    window = octets[place[:, None] + np.arange(1, 5)]
    return ids, np.where(scored, np.ascontiguousarray(window).view("<f4").ravel(), np.float32(0))
