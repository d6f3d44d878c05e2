"""Where relevant documents stand: one entry for each place that may hold one, ties taken in expectation.

Documents of equal score form a group. Over all orders of a group of m documents, r of them relevant, that
starts behind b results with c relevant ones, the document at offset j (from 0) is relevant with probability
r/m, and everything below has a closed form; see F. McSherry and M. Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", ECIR 2008. Without ties the entries are
simply the relevant results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics.ranking import PAD, Flags, Floats, Ints, adjacent


@dataclass(frozen=True)
class Groups:
    """Groups of equal scores that hold something relevant [g], in rows with ties."""

    row: Ints
    """The query [g]."""

    start: Ints
    """Results before the group, b [g]."""

    size: Ints
    """Documents in the group, m [g]."""

    relevant: Ints
    """Relevant ones among them, r >= 1 [g]."""

    before: Ints
    """Relevant documents before the group, c [g]."""

    gain: Floats
    """Sum of the group's grades [g]."""


@dataclass(frozen=True)
class Entries:
    """Places with a chance of a relevant document [e], in no particular order."""

    row: Ints
    """The query [e]."""

    rank: npt.NDArray[np.integer]
    """The place, from 0 [e]."""

    joint: Floats
    """Expectation of (relevant here) * (relevant documents up to and including here) [e]."""

    first: Floats
    """Probability that the first relevant document stands here [e]."""

    relevant: Floats | None
    """Probability of a relevant document here [e]; None: 1 everywhere."""

    gain: Floats | None
    """Expected grade here [e]; None: as `relevant`."""

    groups: Groups | None
    """The groups behind the entries; None without ties."""


def entries(
    scores: npt.NDArray[np.floating], ids: Ints, places: Ints, grades: Floats | None, depth: int, ties: bool
) -> Entries:
    """Finds the entries among the first `depth` places.

    Args:
        scores: [q, k], descending.
        ids: [q, k], -1 for pads.
        places: Where the relevant results stand in the flattened `ids`, ascending [h].
        grades: Their grades [h]; None: all 1.
        depth: How many places matter.
        ties: Whether equal scores are taken in expectation; otherwise the order counts as it is.

    """
    tied = _rows_with_ties(scores, ids) if ties else np.zeros(len(ids), np.bool_)
    if not tied.any():
        return _plain(ids.shape, places, grades, depth)
    columns = ids.shape[1]
    among = tied[places // columns]
    plain = _plain(ids.shape, places[~among], None if grades is None else grades[~among], depth)
    # The rows with ties alone, one below the other.
    rows = np.flatnonzero(tied)
    inside = places[among]
    row = inside // columns
    moved = inside + (np.cumsum(tied)[row] - 1 - row) * columns
    groups = _groups(rows, scores[rows], ids[rows], moved, None if grades is None else grades[among])
    return _merge(plain, _expand(groups, depth, grades is not None), groups)


def _rows_with_ties(scores: npt.NDArray[np.floating], ids: Ints) -> Flags:
    equal = adjacent(scores, np.equal, False)
    if ids.size and (ids[:, -1] == PAD).any():
        equal[:, :-1] &= ids[:, 1:] != PAD
    return np.asarray(equal.any(axis=1), np.bool_) if equal.any() else np.zeros(len(ids), np.bool_)


def _plain(shape: tuple[int, ...], places: Ints, grades: Floats | None, depth: int) -> Entries:
    """Entries of rows without ties: the relevant results."""
    queries, columns = shape
    row = places // max(columns, 1)
    rank = places - row * columns
    found = np.bincount(row, minlength=queries)
    place = np.arange(1, len(places) + 1) - (np.cumsum(found) - found)[row]
    if columns > depth:
        inside = rank < depth
        row, rank, place = row[inside], rank[inside], place[inside]
        grades = None if grades is None else grades[inside]
    return Entries(row, rank, place.astype(np.float64), (place == 1).astype(np.float64), None, grades, None)


def _groups(rows: Ints, scores: npt.NDArray[np.floating], ids: Ints, places: Ints, grades: Floats | None) -> Groups:
    """Cuts rows [t, k] into groups of equal scores and keeps those that hold one of the relevant `places`."""
    columns = ids.shape[1]
    starts = np.ones(ids.shape, np.bool_)
    starts[:, 1:] = adjacent(scores, np.not_equal, True)[:, :-1]
    starts[:, 1:] |= ids[:, 1:] == PAD
    opening = np.append(np.flatnonzero(starts), ids.size)
    number = np.cumsum(starts)[places] - 1
    # The first relevant document of each group, and of each row, among all relevant ones.
    first = np.flatnonzero(np.diff(number, prepend=-1))
    start, stop = opening[number[first]], opening[number[first] + 1]
    row = start // columns
    leading = np.where(np.diff(row, prepend=-1) > 0, first, 0)
    before = first - np.maximum.accumulate(leading)
    hits = np.diff(first, append=len(places))
    gain = hits.astype(np.float64) if grades is None else np.add.reduceat(grades, first)
    return Groups(rows[row], start - row * columns, stop - start, hits, before, gain)


def _expand(groups: Groups, depth: int, graded: bool) -> Entries:
    """Turns groups into entries: one for every place of a group that lies within `depth`."""
    length = np.clip(depth - groups.start, 0, groups.size)
    group = np.repeat(np.arange(len(length)), length)
    offset = np.arange(len(group)) - np.repeat(np.cumsum(length) - length, length)
    size, hits = groups.size[group], groups.relevant[group]
    chance = hits / size
    # Given a relevant document here, each of the j places before it in the group holds one of the other
    # r - 1 relevant documents with probability (r - 1) / (m - 1).
    others = offset * (hits - 1) / np.maximum(size - 1, 1)
    joint = chance * (groups.before[group] + 1 + others)
    first = _first(groups, length, group, offset)
    gain = groups.gain[group] / size if graded else None
    return Entries(groups.row[group], groups.start[group] + offset, joint, first, chance, gain, groups)


def _first(groups: Groups, length: Ints, group: Ints, offset: Ints) -> Floats:
    """Probability [e] that the first relevant document of a row stands at each place of its first group.

    The first j places of the group hold nothing relevant with probability
    prod_{i<j} (m - r - i) / (m - i); the next one does then with probability r / (m - j).
    """
    leading = groups.before == 0
    width = int(length[leading].max(initial=0))
    steps = np.arange(width)
    size, hits = groups.size[leading][:, None], groups.relevant[leading][:, None]
    left = np.maximum(size - steps, 1)
    none = np.ones((len(size), width + 1))
    np.cumprod(np.maximum(size - hits - steps, 0) / left, axis=1, out=none[:, 1:])
    table = none[:, :-1] * hits / left
    line = np.cumsum(leading) - 1
    here = leading[group]
    first = np.zeros(len(group))
    first[here] = table[line[group[here]], offset[here]]
    return first


def _merge(plain: Entries, tied: Entries, groups: Groups) -> Entries:
    """Puts the entries of rows without and with ties together."""
    assert tied.relevant is not None
    gain = None
    if tied.gain is not None:
        assert plain.gain is not None
        gain = np.concatenate([plain.gain, tied.gain])
    return Entries(
        np.concatenate([plain.row, tied.row]),
        np.concatenate([plain.rank, tied.rank]),
        np.concatenate([plain.joint, tied.joint]),
        np.concatenate([plain.first, tied.first]),
        np.concatenate([np.ones(len(plain.row)), tied.relevant]),
        gain,
        groups,
    )
