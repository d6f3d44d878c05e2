"""Orders of rows: which of them come into one batch."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from tunevane.core.dataset import Dataset, Kind
from tunevane_trainer.training.options import Sampler

AUTO: dict[Kind, Sampler] = {"items": "per-label", "pairs": "no-duplicates", "scored": "shuffle"}


def order(data: Dataset, sampler: Sampler, batch_size: int, per_label: int, generator: random.Random) -> list[int]:
    """Orders the rows of a set; each run of `batch_size` of them becomes a batch.

    Args:
        data: Its rows are items, or pairs where it has some.
        sampler: As in `TrainingOptions`; one that asks for labels takes a set that has none as `shuffle` does.
        batch_size: Rows per batch.
        per_label: Contents of a label that stand together.
        generator: Where chance comes from.

    """
    chosen = AUTO[data.kind] if sampler == "auto" else sampler
    if chosen == "per-label" and data.kind == "items":
        return _by_label(data, per_label, generator)
    rows = list(range(len(data.items) if data.kind == "items" else len(data.pairs)))
    generator.shuffle(rows)
    return _without_duplicates(rows, data, batch_size) if chosen == "no-duplicates" else rows


def _without_duplicates(rows: Sequence[int], data: Dataset, batch_size: int) -> list[int]:
    """Orders rows so that no batch holds two of one label, as far as that can be: they would be false negatives."""
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
    return data.items[row if data.kind == "items" else int(data.pairs[row][0])].label


def _by_label(data: Dataset, per_label: int, generator: random.Random) -> list[int]:
    """Orders items so that those of a label stand in groups, which triplets need."""
    members: dict[str, list[int]] = {}
    for position, item in enumerate(data.items):
        members.setdefault(str(item.label), []).append(position)
    groups: list[list[int]] = []
    for label in sorted(members):
        own = members[label]
        generator.shuffle(own)
        groups.extend(own[start : start + per_label] for start in range(0, len(own), per_label))
    generator.shuffle(groups)
    return [position for group in groups for position in group]
