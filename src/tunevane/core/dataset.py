"""Data sets in memory: items with labels or judgements, and pairs of items."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics import labels
from tunevane.errors import DataFormatError, InvalidRequestError

Kind = Literal["items", "pairs", "scored"]
Pairs = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def _no_pairs() -> Pairs:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Content:
    """What one side of a pair shows: a text, an image, or both."""

    text: str | None = None
    """What a text model reads."""

    image: str | None = None
    """What an image model reads: the path of a file of the bundle."""


@dataclass(frozen=True)
class Item:
    """Something that is encoded."""

    id: str
    """Unique within the set. Where a query set and an index set share an id, it is one document."""

    text: str | None = None
    """What a text model reads."""

    image: str | None = None
    """What an image model reads: the path of a file of the bundle."""

    label: str | None = None
    """Items with one label are relevant to each other; None where relevance is told otherwise or not at all."""

    relevant: Mapping[str, float] = field(default_factory=dict)
    """Judgements: grade by id of a document of the index set; larger than 0 is relevant."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set of items, and which of them belong together."""

    kind: Kind
    """What training reads: labels of items, pairs, or pairs with a score."""

    items: tuple[Item, ...]
    """The items, in the order of the source."""

    pairs: Pairs = field(default_factory=_no_pairs)
    """Positions of two items that belong together, `[p, 2]`; p is 0 for kind `items`."""

    scores: Scores | None = None
    """How alike the two items of each pair are, `[p]`; None unless the kind is `scored`."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        same_scores = (
            other.scores is None
            if self.scores is None
            else other.scores is not None and np.array_equal(self.scores, other.scores)
        )
        same = self.kind == other.kind and self.items == other.items and np.array_equal(self.pairs, other.pairs)
        return same and same_scores

    __hash__ = None  # type: ignore[assignment]  # arrays can change, so a set of them has no hash

    @cached_property
    def labels(self) -> tuple[str | None, ...]:
        """Lists the items' labels."""
        return tuple(item.label for item in self.items)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Lists the items' texts.

        Raises:
            InvalidRequestError: An item has no text.

        """
        found = []
        for item in self.items:
            if item.text is None:
                raise InvalidRequestError(f"the item {item.id!r} has no text, which this model needs")
            found.append(item.text)
        return tuple(found)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Lists the items' images, as paths of files of the bundle.

        Raises:
            InvalidRequestError: An item has no image.

        """
        found = []
        for item in self.items:
            if item.image is None:
                raise InvalidRequestError(f"the item {item.id!r} has no image, which this model needs")
            found.append(item.image)
        return tuple(found)


def canonical_label(value: object) -> str:
    """Writes a label the one way in which labels are compared: `1`, `1.0` and `"1"` are one label.

    Raises:
        InvalidRequestError: It is no string, number or truth value, or is not finite.

    """
    return labels.canonical(value)


def from_items(rows: Sequence[Item]) -> Dataset:
    """Makes a set of items; those whose id is empty get one.

    Raises:
        DataFormatError: Two items have one id.

    """
    name = Fingerprint()
    for item in rows:
        name.add(item.text, item.image, item.label)
    items = tuple(
        item if item.id else replace(item, id=f"{name.text()}-{position}") for position, item in enumerate(rows)
    )
    return checked(Dataset("items", items))


def from_labelled(rows: Iterable[tuple[str | Content, object]]) -> Dataset:
    """Makes a set of contents with labels."""
    contents = ((_content(content), canonical_label(label)) for content, label in rows)
    return from_items([Item("", content.text, content.image, label) for content, label in contents])


def from_pairs(rows: Iterable[tuple[str | Content, str | Content]]) -> Dataset:
    """Makes a set of pairs; equal contents are one item, and all items that pairs connect share one label."""
    contents, pairs, prefix = _numbered(rows)
    groups = Groups()
    groups.grow(len(contents))
    for first, second in pairs:
        groups.join(first, second)
    items = (
        Item(f"{prefix}-{position}", content.text, content.image, label=f"{prefix}-{group}")
        for position, (content, group) in enumerate(zip(contents, groups.numbers().tolist(), strict=True))
    )
    return checked(Dataset("pairs", tuple(items), _as_array(pairs)))


def from_scored(rows: Iterable[tuple[str | Content, str | Content, float]]) -> Dataset:
    """Makes a set of pairs with scores; a score is no label, so the items have none."""
    listed = list(rows)
    contents, pairs, prefix = _numbered((first, second) for first, second, _ in listed)
    items = tuple(Item(f"{prefix}-{position}", each.text, each.image) for position, each in enumerate(contents))
    scores = np.array([score for *_, score in listed], np.float64)
    return checked(Dataset("scored", items, _as_array(pairs), scores))


def _content(value: str | Content) -> Content:
    return Content(value) if isinstance(value, str) else value


def _numbered(
    rows: Iterable[tuple[str | Content, str | Content]],
) -> tuple[list[Content], list[tuple[int, int]], str]:
    """Numbers contents by first appearance.

    Returns:
        The contents, the pairs as numbers, and a fingerprint of the contents.

    """
    number_of: dict[Content, int] = {}
    pairs = [
        (
            number_of.setdefault(_content(first), len(number_of)),
            number_of.setdefault(_content(second), len(number_of)),
        )
        for first, second in rows
    ]
    name = Fingerprint()
    for content in number_of:
        name.add(content.text, content.image)
    return list(number_of), pairs, name.text()


def _as_array(pairs: list[tuple[int, int]]) -> Pairs:
    return np.array(pairs, np.int64).reshape(-1, 2)


class Fingerprint:
    """Names a set by its contents, as the first part of ids and labels that we make up.

    With plain numbers, query 7 of one file would count as document 7 of another, and a search would leave that
    document out; and group 7 of one file of pairs would be relevant to group 7 of another.
    """

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=5)

    def add(self, *parts: str | None) -> None:
        """Takes the parts of the next content."""
        for part in parts:
            data = (part or "").encode("utf-8", "surrogatepass")
            self._digest.update(len(data).to_bytes(8, "little") + data)

    def text(self) -> str:
        """Returns the name of everything taken so far."""
        return self._digest.hexdigest()


class Groups:
    """Which nodes of a graph are connected (union-find); 8 bytes a node."""

    def __init__(self) -> None:
        self._parent = array("q")

    def grow(self, count: int) -> None:
        """Makes sure that there are so many nodes."""
        self._parent.extend(range(len(self._parent), count))

    def join(self, left: int, right: int) -> None:
        """Connects two nodes."""
        low, high = sorted((self._root(left), self._root(right)))
        self._parent[high] = low

    def _root(self, node: int) -> int:
        parent = self._parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers the connected components by order of first appearance; gives the one of each node, `[n]`."""
        # A root is the smallest node of its component, so every parent comes before its children.
        roots = np.empty(len(self._parent), np.int64)
        count = 0
        for node, parent in enumerate(self._parent):
            if parent == node:
                roots[node] = count
                count += 1
            else:
                roots[node] = roots[parent]
        return roots


def checked(data: Dataset) -> Dataset:
    """Returns a set that keeps its promises.

    Raises:
        DataFormatError: It is empty, has an id twice, or its pairs and scores do not fit its kind and items.

    """
    count = len(data.items)
    if data.kind not in get_args(Kind):
        raise DataFormatError(f"the data set has the unknown kind {data.kind!r}; known are {', '.join(get_args(Kind))}")
    if count == 0:
        raise DataFormatError("the data set is empty; it needs at least one item")
    if data.pairs.ndim != 2 or data.pairs.shape[1] != 2:
        raise DataFormatError(f"the data set's pairs have the shape {data.pairs.shape}; two columns are needed")
    if (len(data.pairs) > 0) != (data.kind != "items"):
        raise DataFormatError(f"the data set has the kind {data.kind!r} and {len(data.pairs)} pairs, which cannot be")
    if len(data.pairs) and not (data.pairs.min() >= 0 and data.pairs.max() < count):
        raise DataFormatError(f"a pair of the data set names an item outside its {count}")
    if (data.scores is not None) != (data.kind == "scored"):
        raise DataFormatError(f"the data set has the kind {data.kind!r}; only 'scored' has scores, and always has")
    if data.scores is not None and (data.scores.shape != (len(data.pairs),) or not np.isfinite(data.scores).all()):
        raise DataFormatError("the data set needs one finite score for each of its pairs")
    doubled = duplicate(item.id for item in data.items)
    if doubled is not None:
        raise DataFormatError(f"the data set has the id {doubled!r} more than once; ids are unique")
    return data


def duplicate(ids: Iterable[str]) -> str | None:
    """Finds the first id that is there more than once, or None."""
    return next((name for name, count in Counter(ids).items() if count > 1), None)
