"""Batches of an epoch, drawn by seed and epoch number alone, so that a resumed run sees the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tunevane.core.dataset import Dataset
from tunevane_trainer.training import samplers
from tunevane_trainer.training.options import TrainingOptions

DEFAULT_BATCH_SIZE = 64
MIN_BATCH = 2


@dataclass(frozen=True)
class Batch:
    """Items of one optimizer step, column by column."""

    columns: tuple[list[int], ...]
    """Positions of `b` items of the set: one column for contents with labels, two for pairs."""

    labels: torch.Tensor
    """Numbers of labels, or scores, `[b]`; zeros for pairs."""


def count(data: Dataset, batch_size: int) -> int:
    """Returns the batches of an epoch."""
    rows = len(data.items) if data.kind == "items" else len(data.pairs)
    full, rest = divmod(rows, batch_size)
    return max(full + (rest >= MIN_BATCH), 1)


def codes_of(data: Dataset) -> dict[str, int]:
    """Numbers the labels of a set, in order; none where the set holds pairs."""
    if data.kind != "items":
        return {}
    return {label: code for code, label in enumerate(sorted({str(label) for label in data.labels}))}


def epoch(
    data: Dataset,
    batch_size: int,
    seed: int,
    number: int,
    options: TrainingOptions | None = None,
    codes: dict[str, int] | None = None,
) -> Iterator[Batch]:
    """Yields the batches of an epoch, at most `count` of them.

    Args:
        data: The training set.
        batch_size: Rows per batch.
        seed: The run's seed.
        number: The epoch, from 1.
        options: How rows are drawn; None for the defaults.
        codes: Numbers of labels, where another set's are meant; None numbers the labels of this one.

    """
    generator = random.Random(f"{seed}/{number}")
    chosen = TrainingOptions() if options is None else options
    rows = samplers.order(data, chosen.sampler, batch_size, chosen.per_label, generator)
    known = codes_of(data) if codes is None else codes
    for start in range(0, count(data, batch_size) * batch_size, batch_size):
        some = rows[start : start + batch_size]
        if len(some) >= MIN_BATCH or start == 0:
            yield _batch(data, some, known)


def _batch(data: Dataset, rows: Sequence[int], codes: dict[str, int]) -> Batch:
    if data.kind == "items":
        return Batch((list(rows),), torch.tensor([codes[str(data.items[row].label)] for row in rows]))
    columns = tuple(data.pairs[list(rows), side].tolist() for side in (0, 1))
    scores = [0.0] * len(rows) if data.scores is None else [float(data.scores[row]) for row in rows]
    return Batch(columns, torch.tensor(scores))
