"""Batches of an epoch, drawn by seed and epoch number alone, so that a resumed run sees the same ones."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tunevane.core.dataset import Dataset

DEFAULT_BATCH_SIZE = 64
MIN_BATCH = 2


@dataclass(frozen=True)
class Batch:
    """Texts of one optimizer step, column by column."""

    columns: tuple[list[str], ...]
    """One or two columns of `b` texts."""

    labels: torch.Tensor
    """Labels or scores, `[b]`; zeros for pairs."""


def count(data: Dataset, batch_size: int) -> int:
    """Returns the batches of an epoch."""
    rows = len(data.items) if data.kind == "items" else len(data.pairs)
    full, rest = divmod(rows, batch_size)
    return max(full + (rest >= MIN_BATCH), 1)


def epoch(data: Dataset, batch_size: int, seed: int, number: int) -> Iterator[Batch]:
    """Yields the batches of an epoch, at most `count` of them.

    Args:
        data: The training set.
        batch_size: Rows per batch.
        seed: The run's seed.
        number: The epoch, from 1.

    """
    generator = random.Random(f"{seed}/{number}")
    if data.kind == "items":
        rows = _by_label(data, batch_size, generator)
    else:
        rows = list(range(len(data.pairs)))
        generator.shuffle(rows)
        if data.kind == "pairs":
            rows = _without_duplicates(rows, data, batch_size)
    texts = data.texts
    codes = {label: code for code, label in enumerate(sorted({str(label) for label in data.labels}))}
    for start in range(0, count(data, batch_size) * batch_size, batch_size):
        chosen = rows[start : start + batch_size]
        if len(chosen) >= MIN_BATCH or start == 0:
            yield _batch(data, texts, chosen, codes)


def _batch(data: Dataset, texts: Sequence[str], rows: Sequence[int], codes: dict[str, int]) -> Batch:
    if data.kind == "items":
        labels = torch.tensor([codes[str(data.items[row].label)] for row in rows])
        return Batch(([texts[row] for row in rows],), labels)
    left = [texts[data.pairs[row][0]] for row in rows]
    right = [texts[data.pairs[row][1]] for row in rows]
    scores = [0.0] * len(rows) if data.scores is None else [float(data.scores[row]) for row in rows]
    return Batch((left, right), torch.tensor(scores))


def _without_duplicates(rows: Sequence[int], data: Dataset, batch_size: int) -> list[int]:
    """Orders pairs so that no batch holds two of one label, as far as that can be: they would be false negatives."""
    ordered: list[int] = []
    waiting: deque[int] = deque()
    remaining = iter(rows)
    used: set[str | None] = set()
    while len(ordered) < len(rows):
        if len(ordered) % batch_size == 0:
            used = set()
        position = next((i for i, row in enumerate(waiting) if _label(data, row) not in used), None)
        if position is not None:
            row = waiting[position]
            del waiting[position]
        else:
            found = next(remaining, None)
            if found is None:
                row = waiting.popleft()
            elif _label(data, found) in used:
                waiting.append(found)
                continue
            else:
                row = found
        used.add(_label(data, row))
        ordered.append(row)
    return ordered


def _label(data: Dataset, row: int) -> str | None:
    return data.items[int(data.pairs[row][0])].label


def _by_label(data: Dataset, batch_size: int, generator: random.Random) -> list[int]:
    """Orders items so that those of a label stand in groups of four, which triplets need."""
    members: dict[str, list[int]] = {}
    for position, item in enumerate(data.items):
        members.setdefault(str(item.label), []).append(position)
    groups: list[list[int]] = []
    for label in sorted(members):
        own = members[label]
        generator.shuffle(own)
        groups.extend(own[start : start + 4] for start in range(0, len(own), 4))
    generator.shuffle(groups)
    return [position for group in groups for position in group]
