"""What a person wants to know of a data set before training on it: counts, samples, and what leaks into another."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass

from tunevane.core.dataset import Dataset, Item, Kind

SHOWN = 5


@dataclass(frozen=True)
class Inspection:
    """A data set as it was understood."""

    kind: Kind
    """What training reads: labels of items, pairs, or pairs with a score."""

    items: int
    """Items in it; equal contents of pairs count once."""

    texts: int
    """Items with a text."""

    images: int
    """Items with an image."""

    pairs: int
    """Pairs; 0 for items."""

    labels: int
    """Different labels; for pairs, groups of items that pairs connect."""

    unlabelled: int
    """Items without a label."""

    judged: int
    """Items that name their relevant documents."""

    largest_label: int
    """Items of the most frequent label."""

    single_labels: int
    """Labels of one item only, which has nothing to be relevant to in its own set."""

    score_range: tuple[float, float] | None
    """Lowest and highest score; None without scores."""

    duplicates: int
    """Items whose content is there already, after Unicode normalisation, without case and extra spaces."""

    longest_text: int
    """Characters of the longest text."""

    samples: tuple[str, ...]
    """The first few rows in words."""


@dataclass(frozen=True)
class Leak:
    """A content of a training set that is also in an evaluation set."""

    content: str
    """The content, as the evaluation set has it."""

    train_id: str
    """Id of the item in the training set."""

    evaluation_id: str
    """Id of the item in the evaluation set."""


def inspect(data: Dataset) -> Inspection:
    """Counts a data set."""
    labels = Counter(label for label in data.labels if label is not None)
    contents = [_content(item) for item in data.items]
    scores = data.scores
    return Inspection(
        kind=data.kind,
        items=len(data.items),
        texts=sum(item.text is not None for item in data.items),
        images=sum(item.image is not None for item in data.items),
        pairs=len(data.pairs),
        labels=len(labels),
        unlabelled=sum(label is None for label in data.labels),
        judged=sum(bool(item.relevant) for item in data.items),
        largest_label=max(labels.values(), default=0),
        single_labels=sum(count == 1 for count in labels.values()),
        score_range=None if scores is None else (float(scores.min()), float(scores.max())),
        duplicates=len(contents) - len(set(contents)),
        longest_text=max((len(item.text or "") for item in data.items), default=0),
        samples=tuple(_samples(data)),
    )


def leaks(train: Dataset, evaluation: Dataset) -> list[Leak]:
    """Lists the contents of an evaluation set that a model was trained on, in the order of that set."""
    trained = {_content(item): item for item in reversed(train.items)}
    found = []
    for item in evaluation.items:
        twin = trained.get(_content(item))
        if twin is not None:
            found.append(Leak(_words(item), twin.id, item.id))
    return found


def _content(item: Item) -> tuple[str, str]:
    text = " ".join(unicodedata.normalize("NFKC", item.text or "").casefold().split())
    return text, item.image or ""


def _words(item: Item) -> str:
    return item.text if item.text is not None else f"[{item.image}]"


def _samples(data: Dataset) -> list[str]:
    if data.kind == "items":
        return [
            f"{_words(item)}" + (f"  [{item.label}]" if item.label is not None else "") for item in data.items[:SHOWN]
        ]
    rows = []
    for number, (left, right) in enumerate(data.pairs[:SHOWN]):
        score = "" if data.scores is None else f"  [{data.scores[number]:g}]"
        rows.append(f"{_words(data.items[left])}  ↔  {_words(data.items[right])}{score}")
    return rows
