"""Data sets in memory: items with labels or judgements, and pairs of items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["items", "pairs", "scored"]


@dataclass(frozen=True)
class Item:
    """Something that is encoded."""

    id: str
    """Unique within the set."""

    text: str
    """What the model reads."""

    label: str | None = None
    """Items with one label are relevant to each other; None where relevance is told otherwise or not at all."""

    relevant: Mapping[str, float] = field(default_factory=dict)
    """Judgements: grade by id of a document of the index set; larger than 0 is relevant."""


@dataclass(frozen=True)
class Dataset:
    """A set of items, and which of them belong together."""

    kind: Kind
    """What training reads: labels of items, pairs, or pairs with a score."""

    items: tuple[Item, ...]
    """The items, in the order of the source."""

    pairs: tuple[tuple[int, int], ...] = ()
    """Positions of two items that belong together; empty for kind `items`."""

    scores: tuple[float, ...] = ()
    """How alike the two items of each pair are; empty unless the kind is `scored`."""

    @property
    def labels(self) -> tuple[str | None, ...]:
        """Lists the items' labels."""
        return tuple(item.label for item in self.items)

    @property
    def texts(self) -> tuple[str, ...]:
        """Lists the items' texts."""
        return tuple(item.text for item in self.items)


def canonical_label(value: object) -> str:
    """Writes a label the one way in which labels are compared: `1`, `1.0` and `"1"` are one label."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and "e" not in text.lower() and "_" not in text else text


def from_labelled(rows: Iterable[tuple[str, object]]) -> Dataset:
    """Makes a set of contents with labels."""
    items = tuple(Item(str(position), text, canonical_label(label)) for position, (text, label) in enumerate(rows))
    return Dataset("items", items)


def from_pairs(rows: Iterable[tuple[str, str]]) -> Dataset:
    """Makes a set of pairs; all contents that pairs connect, directly or not, share one label."""
    items, pairs = _connect(rows)
    return Dataset("pairs", items, pairs)


def from_scored(rows: Iterable[tuple[str, str, float]]) -> Dataset:
    """Makes a set of pairs with scores; a score is no label, so the items have none."""
    listed = list(rows)
    items, pairs = _connect((first, second) for first, second, _ in listed)
    bare = tuple(Item(item.id, item.text) for item in items)
    return Dataset("scored", bare, pairs, tuple(float(score) for *_, score in listed))


def _connect(rows: Iterable[tuple[str, str]]) -> tuple[tuple[Item, ...], tuple[tuple[int, int], ...]]:
    position_of: dict[str, int] = {}
    pairs = []
    for first, second in rows:
        left = position_of.setdefault(first, len(position_of))
        right = position_of.setdefault(second, len(position_of))
        pairs.append((left, right))
    labels = components(len(position_of), pairs)
    items = tuple(Item(str(position), text, str(labels[position])) for text, position in position_of.items())
    return items, tuple(pairs)


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Numbers the connected components of a graph, by order of first appearance (union-find).

    Returns:
        The component of each of the `count` nodes.

    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(node), len(numbers)) for node in range(count)]


def duplicates(ids: Sequence[str]) -> list[str]:
    """Lists the ids that appear more than once, each once, in order."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    for name in ids:
        if name in seen:
            found[name] = None
        seen.add(name)
    return list(found)
